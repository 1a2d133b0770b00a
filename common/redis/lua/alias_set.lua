-- ARGV: alias, model, set_by, whether to leave a target alone that somebody has set by hand (0/1).
-- Returns 'ok' and the alias (JSON); 'unknown' if the model stands for nothing; or the kind of thing that has the name.
local MAX_HISTORY = 20
local name, model, set_by, is_modest = unpack(ARGV)
local kind = kind_of(name)
if kind and kind ~= 'alias' then return {kind, ''} end
local found = resolve_model(model)
if not found then return {'unknown', ''} end

local old = redis.call('HGET', ROOT .. ':aliases', name)
local alias = old and cjson.decode(old) or {set_by = set_by}
if is_modest == '1' and alias.set_by ~= '' then return {'ok', old} end
local has_moved = alias.target ~= found.model
if has_moved and alias.target then
  alias.history = alias.history or {}
  table.insert(alias.history, 1, alias.target)
  alias.history[MAX_HISTORY + 1] = nil
end
alias.target, alias.set_by = found.model, set_by
local text = write_alias(name, alias)
if has_moved then announce_adapters() end
return {'ok', text}
