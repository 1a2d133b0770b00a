-- ARGV: limit, lease_ms.  Lends out ended jobs whose webhook is due: nobody else gets them for lease_ms.
-- Returns id, attempt, id, attempt, ...
local limit, lease_ms = unpack(ARGV)
local now = now_ms()
local lent = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', 'slm:webhooks:due', '-inf', now, 'LIMIT', 0, limit)) do
  if redis.call('EXISTS', job_key(id)) == 1 then
    redis.call('ZADD', 'slm:webhooks:due', now + lease_ms, id)
    lent[#lent + 1] = id
    lent[#lent + 1] = redis.call('HINCRBY', job_key(id), 'webhook_attempts', 1)
  else
    redis.call('ZREM', 'slm:webhooks:due', id)
  end
end
return lent
