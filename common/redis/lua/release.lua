-- ARGV: id, attempt.  Returns a running job to its old position in the queue.
-- Returns 1 and the wake-up messages to send; -1 if another attempt owns the job.
write_even_when_full()
local id, attempt = unpack(ARGV)
if not owns(id, attempt) then return {-1, {}} end
local lane = redis.call('HGET', job_key(id), 'lane')
requeue(id, lane)
return {1, dispatch(lane, now_ms())}
