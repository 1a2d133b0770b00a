-- ARGV: alias, set_by.  Returns 'ok' and the alias (JSON); 'unknown'; or 'first' if it has no earlier target.
local name, set_by = unpack(ARGV)
local old = redis.call('HGET', ROOT .. ':aliases', name)
if not old then return {'unknown', ''} end
local alias = cjson.decode(old)
if not alias.history or #alias.history == 0 then return {'first', ''} end
alias.target, alias.set_by = table.remove(alias.history, 1), set_by
local text = write_alias(name, alias)
announce_adapters()
return {'ok', text}
