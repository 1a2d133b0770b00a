-- ARGV: base ('': the only one), loaded (0/1), only_if ('' / 'different' / 'same').  Returns loaded, generation of the
-- desired state after the call.
local base, loaded, only_if = unpack(ARGV)
local old = redis.call('HMGET', model_key(base), 'loaded', 'generation')
if only_if == 'different' and old[1] == loaded or only_if == 'same' and (old[1] or '1') ~= loaded then
  return {tonumber(old[1] or 1), tonumber(old[2] or 0)}
end
return {tonumber(loaded), desire(base, loaded)}
