-- ARGV: id, ttl_s.  Takes a job out of quarantine: its record expires like any other's. Returns whether it was in it.
local id, ttl_s = unpack(ARGV)
if redis.call('ZREM', 'slm:jobs:quarantine', id) == 0 then return 0 end
redis.call('ZADD', 'slm:jobs:expiry', now_ms() + ttl_s * 1000, id)
expire(id, ttl_s)
return 1
