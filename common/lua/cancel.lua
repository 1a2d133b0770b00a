-- ARGV: id, ttl_s, type and data of the terminal event.  Returns the state and the bells; false for an unknown job.
-- A queued job ends here; a running one is flagged, and its worker ends it at the next token.
local id, ttl_s, kind, data = unpack(ARGV)
local job = redis.call('HMGET', job_key(id), 'state', 'lane')
if not job[1] then return false end
if job[1] == 'running' then
  redis.call('HSET', job_key(id), 'cancel', 1)
  redis.call('PUBLISH', 'slm:control', cjson.encode({cancel = id}))
  return {'running', {}}
end
if job[1] ~= 'queued' then return {job[1], {}} end

local now = now_ms()
close(id, job[2], 'cancelled', now)
append(id, kind, data)
expire(id, now, ttl_s)
account(id, 0, committed_tokens(id))
return {'cancelled', ring(job[2], now)}
