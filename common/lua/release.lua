-- ARGV: id, attempt.  The worker hands its running job back, to the job's old place in line.
-- Returns 1 and the bells to ring; -1 when another attempt owns the job.
write_even_when_full()
local id, attempt = unpack(ARGV)
if not owns(id, attempt) then return {-1, {}} end
local lane = redis.call('HGET', job_key(id), 'lane')
requeue(id, lane)
return {1, ring(lane, now_ms())}
