-- ARGV: job, owner. Deletes the feedback on a job. Returns whether there was any (0/1).
local id, owner = ARGV[1], ARGV[2]
redis.call('ZREM', 'slm:feedback:by_time', id)
redis.call('ZREM', 'slm:feedback:of:' .. owner, id)
redis.call('HDEL', 'slm:feedback:bytes:' .. owner, id)
return redis.call('DEL', 'slm:feedback:job:' .. id)
