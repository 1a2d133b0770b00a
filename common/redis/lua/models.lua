-- Returns {name, kind, base, model, adapter_id} for each name that a request can use.
local rows = {}
local function add(names, kind)
  for _, name in ipairs(names) do
    local found = resolve_model(name)
    if found then rows[#rows + 1] = {name, kind, found.base, found.model, found.adapter_id} end
  end
end
add(redis.call('HKEYS', 'slm:bases'), 'base')
add(redis.call('SMEMBERS', 'slm:adapters'), 'adapter')
add(redis.call('HKEYS', 'slm:aliases'), 'alias')
return rows
