-- ARGV: id.  Returns the state after the call and the wake-up messages; false for an unknown job.
-- Sets a queued run aside; flags a running one, whose trainer sets it aside after a step (`set_aside.lua`). One
-- that has begun to publish is left as it is: then there is a third value, 1.
write_even_when_full()
local id = ARGV[1]
local job = redis.call('HMGET', job_key(id), 'state', 'lane', 'publishing')
if not job[1] then return false end
if job[3] and not is_over(id) then return {job[1], {}, 1} end
if job[1] == 'running' then
  redis.call('HSET', job_key(id), 'pause', 1)
  redis.call('PUBLISH', 'slm:control', cjson.encode({pause = id}))
end
if job[1] ~= 'queued' then return {job[1], {}} end
set_aside(id, job[2])
return {'paused', dispatch(job[2], now_ms())}
