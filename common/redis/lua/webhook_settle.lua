-- ARGV: id, attempt, state, error (may be empty), retry_ms (while the state is pending), ttl_s.
-- Records the outcome of an attempt. Returns 0 and does nothing if another attempt has begun since.
local id, attempt, state, err, retry_ms, ttl_s = unpack(ARGV)
if redis.call('HGET', job_key(id), 'webhook_attempts') ~= attempt then return 0 end
local now = now_ms()
redis.call('HSET', job_key(id), 'webhook_state', state, 'webhook_error', err)
if state == 'pending' then
  redis.call('ZADD', webhooks_key(id), now + retry_ms, id)
else
  redis.call('ZREM', webhooks_key(id), id)
  expire(id, now, ttl_s)
end
return 1
