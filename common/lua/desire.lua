-- ARGV: loaded (0/1), only_if_different (0/1).  Returns loaded, generation of the desired state after the call.
local loaded, only_if_different = unpack(ARGV)
local old = redis.call('HMGET', 'slm:model', 'loaded', 'generation')
if only_if_different == '1' and old[1] == loaded then return {tonumber(old[1]), tonumber(old[2])} end
redis.call('HSET', 'slm:model', 'loaded', loaded)
local generation = redis.call('HINCRBY', 'slm:model', 'generation', 1)
redis.call('PUBLISH', 'slm:control', cjson.encode({model = generation}))
return {tonumber(loaded), generation}
