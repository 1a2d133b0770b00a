-- ARGV: worker, ttl_ms, slots, report (JSON).  Counts the worker as alive for ttl_ms.
local worker, ttl_ms, slots, report = unpack(ARGV)
redis.call('ZADD', 'slm:workers', now_ms() + ttl_ms, worker)
redis.call('HSET', 'slm:workers:slots', worker, slots)
redis.call('SET', 'slm:worker:' .. worker, report, 'PX', ttl_ms)
return 1
