-- ARGV: lane, max_crashes, stale_bell_ms, Celery queue, ttl_s, worker_lost error (JSON).
-- Puts back the jobs whose worker died, fails those that killed too many, finds bells that were lost, forgets expired
-- jobs. Every worker runs it; it is atomic, so they need no agreement. Returns the bells to ring.
local lane, max_crashes, stale_bell_ms, queue, ttl_s, lost_error = unpack(ARGV)
local now = now_ms()
for _, id in ipairs(redis.call('ZRANGEBYSCORE', lane_key(lane, 'leases'), '-inf', now)) do
  if redis.call('HINCRBY', job_key(id), 'crashes', 1) < tonumber(max_crashes) then
    requeue(id, lane)
  else
    redis.call('HSET', job_key(id), 'error', lost_error)
    close(id, lane, 'failed', now, ttl_s)
    append(id, 'error', lost_error)
    expire(id, ttl_s)
  end
end
-- A bell rung long ago while the queue is empty was lost on its way: the message was handed to a worker that died.
if redis.call('LLEN', queue) == 0 then
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', lane_key(lane, 'rung'), '-inf', now - stale_bell_ms)) do
    requeue(id, lane)
  end
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', 'slm:jobs:expiry', '-inf', now)) do
  redis.call('ZREM', 'slm:jobs:index', id)
  redis.call('ZREM', 'slm:jobs:expiry', id)
end
return ring(lane, now)
