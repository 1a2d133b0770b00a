-- ARGV: id, attempt.  Lets a training run publish. From then on it is too late to cancel or to pause it, also if its
-- trainer dies: a later attempt finds what was published, and gives the run its result.
-- Returns 1; 0 if it is to be cancelled or paused; -1 if another attempt owns the job.
write_even_when_full()
local id, attempt = unpack(ARGV)
if not owns(id, attempt) then return -1 end
local job = redis.call('HMGET', job_key(id), 'cancel', 'pause')
if job[1] or job[2] then return 0 end
redis.call('HSET', job_key(id), 'publishing', 1)
return 1
