-- ARGV: id, attempt.  Sets a running run aside, or back into the queue if it was resumed meanwhile.
-- Returns 1 and the wake-up messages to send; 0 if it is to be cancelled; -1 if another attempt owns the job.
write_even_when_full()
local id, attempt = unpack(ARGV)
if not owns(id, attempt) then return {-1, {}} end
if redis.call('HEXISTS', job_key(id), 'cancel') == 1 then return {0, {}} end
local lane = redis.call('HGET', job_key(id), 'lane')
if redis.call('HEXISTS', job_key(id), 'pause') == 1 then set_aside(id, lane) else requeue(id, lane) end
return {1, dispatch(lane, now_ms())}
