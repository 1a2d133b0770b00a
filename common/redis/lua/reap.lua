-- ARGV: lane, max_crashes, stale_message_ms, Celery queue, ttl_s, worker_lost error (JSON), expired error (JSON), data
-- of a cancelled job's last event (JSON).
-- Requeues jobs of dead workers, fails jobs that lost too many workers or waited too long, cancels queued jobs that
-- nobody has read for their grace period, finds lost wake-up messages, and forgets expired jobs. Every worker runs it;
-- it is atomic, so they need no coordination. Returns the wake-up messages to send.
write_even_when_full()
local lane, max_crashes, stale_message_ms, queue, ttl_s, lost_error, expired_error, cancelled = unpack(ARGV)
local now = now_ms()
local overdue = leases_count(now) and redis.call('ZRANGEBYSCORE', lane_key(lane, 'leases'), '-inf', now) or {}
for _, id in ipairs(overdue) do
  count('crashes')
  if made_progress(id) then redis.call('HSET', job_key(id), 'crashes', 0) end
  if redis.call('HINCRBY', job_key(id), 'crashes', 1) < tonumber(max_crashes) then
    requeue(id, lane)
  else
    add_dead_letter(id, now)
    fail(id, lane, lost_error, now, ttl_s)
  end
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', lane_key(lane, 'deadlines'), '-inf', now)) do
  fail(id, lane, expired_error, now, ttl_s)
end
for _, id in ipairs(redis.call('SMEMBERS', lane_key(lane, 'unread'))) do
  if redis.call('HGET', job_key(id), 'state') == 'queued' and not has_reader(id, now) then
    cancel_queued(id, lane, cancelled, now, ttl_s)
  end
end
-- A job dispatched long ago although the Celery queue is empty: a worker received the message and died.
if redis.call('LLEN', queue) == 0 then
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', lane_key(lane, 'dispatched'), '-inf', now - stale_message_ms)) do
    requeue(id, lane)
  end
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', 'slm:jobs:expiry', '-inf', now)) do
  unlist(id)
end
return dispatch(lane, now)
