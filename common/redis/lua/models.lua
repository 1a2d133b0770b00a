-- Returns {name, kind, base, model, adapter_id} for each name that a request can use.
return known_models()
