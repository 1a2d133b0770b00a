-- ARGV: id.  Returns the state after the call and the wake-up messages; false for an unknown job.
-- Queues a paused run at its old position; takes the flag from a running one that was to be paused.
local id = ARGV[1]
local job = redis.call('HMGET', job_key(id), 'state', 'lane')
if not job[1] then return false end
redis.call('HDEL', job_key(id), 'pause')
if job[1] ~= 'paused' then return {job[1], {}} end
redis.call('SREM', ROOT .. ':jobs:paused', id)
redis.call('HSET', job_key(id), 'state', 'queued')
enqueue(id, job[2])
append(id, 'status', '{"status": "Resumed"}')
return {'queued', dispatch(job[2], now_ms())}
