-- ARGV: worker, lease_ms, report (JSON), then lane, places, ... of the lanes that it serves: jobs that it runs at once.
-- Counts the worker as alive for lease_ms.
write_even_when_full()
local worker, lease_ms, report = unpack(ARGV, 1, 3)
local now = now_ms()
for i = 4, #ARGV, 2 do note_places(worker, ARGV[i], ARGV[i + 1], now) end
redis.call('ZADD', ROOT .. ':workers', now + lease_ms, worker)
note_beat('worker', now, lease_ms / 2)  -- workers beat four times per lease
redis.call('HSET', ROOT .. ':awake', 'lease_ms', lease_ms)
redis.call('SET', ROOT .. ':worker:' .. worker, report, 'PX', lease_ms)
return 1
