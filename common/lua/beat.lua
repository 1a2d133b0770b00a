-- ARGV: worker, ttl_ms, slots, report (JSON).  Counts the worker as alive for ttl_ms.
write_even_when_full()
local worker, ttl_ms, slots, report = unpack(ARGV)
local now = now_ms()
redis.call('ZADD', 'slm:workers', now + ttl_ms, worker)
redis.call('HSET', 'slm:awake', 'since', awake_since(now, ttl_ms), 'last', now)
redis.call('HSET', 'slm:workers:slots', worker, slots)
redis.call('SET', 'slm:worker:' .. worker, report, 'PX', ttl_ms)
return 1
