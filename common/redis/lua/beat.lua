-- ARGV: worker, lease_ms, max_num_seqs, report (JSON).  Counts the worker as alive for lease_ms.
write_even_when_full()
local worker, lease_ms, max_num_seqs, report = unpack(ARGV)
local now = now_ms()
redis.call('ZADD', 'slm:workers', now + lease_ms, worker)
note_beat('worker', now, lease_ms / 2)  -- workers beat four times per lease
redis.call('HSET', 'slm:awake', 'lease_ms', lease_ms)
redis.call('HSET', 'slm:workers:slots', worker, max_num_seqs)
redis.call('SET', 'slm:worker:' .. worker, report, 'PX', lease_ms)
return 1
