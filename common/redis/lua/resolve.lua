-- ARGV: name.  Returns base, model, adapter_id; or false if nothing has that name.
local found = resolve_model(ARGV[1])
return found and {found.base, found.model, found.adapter_id}
