-- ARGV: id, ttl_s, data of the terminal event (JSON).  Returns the state and the wake-up messages; false for an unknown
-- job. Ends a queued or paused job; flags a running job, which its worker ends at the next token. A run that has begun
-- to publish is left as it is: then there is a third value, 1.
local id, ttl_s, last = unpack(ARGV)
local job = redis.call('HMGET', job_key(id), 'state', 'lane', 'publishing')
if not job[1] then return false end
if job[3] and not is_over(id) then return {job[1], {}, 1} end
if job[1] == 'running' then
  redis.call('HSET', job_key(id), 'cancel', 1)
  redis.call('PUBLISH', 'slm:control', cjson.encode({cancel = id}))
  return {'running', {}}
end
if job[1] ~= 'queued' and job[1] ~= 'paused' then return {job[1], {}} end

local now = now_ms()
cancel_queued(id, job[2], last, now, ttl_s)
return {'cancelled', dispatch(job[2], now)}
