-- ARGV: loaded (0/1), only_if ('' / 'different' / 'same').  Returns loaded, generation of the desired state after the
-- call.
local loaded, only_if = unpack(ARGV)
local old = redis.call('HMGET', 'slm:model', 'loaded', 'generation')
if only_if == 'different' and old[1] == loaded or only_if == 'same' and (old[1] or '1') ~= loaded then
  return {tonumber(old[1] or 1), tonumber(old[2] or 0)}
end
redis.call('HSET', 'slm:model', 'loaded', loaded)
local generation = redis.call('HINCRBY', 'slm:model', 'generation', 1)
redis.call('PUBLISH', 'slm:control', cjson.encode({model = generation}))
return {tonumber(loaded), generation}
