-- ARGV: max_crashes, stale_message_ms, ttl_s, worker_lost error (JSON), expired error (JSON), data of a cancelled job's
-- last event (JSON), pause_ms: nothing is done if any worker did it within that time (0: always), whether this server
-- has the Celery queues, too (0/1).
-- Requeues jobs of dead workers, fails jobs that lost too many workers or waited too long, cancels queued jobs that
-- nobody has read for their grace period, finds lost wake-up messages, and forgets expired jobs. Every worker runs it
-- for all lanes; it is atomic, so they need no coordination. Returns the wake-up messages to send.
write_even_when_full()
local max_crashes, stale_message_ms, ttl_s, lost_error, expired_error, cancelled, pause_ms, has_queues = unpack(ARGV)
local now, lanes = now_ms(), redis.call('SMEMBERS', ROOT .. ':lanes')
if pause_ms ~= '0' then
  local last = redis.call('GET', ROOT .. ':reaped')
  if last and math.abs(now - last) < tonumber(pause_ms) then return {} end  -- later than now: the clock was set back
  redis.call('SET', ROOT .. ':reaped', now, 'PX', pause_ms)
end

local MAX_EXPIRED = 1000  -- jobs that are forgotten at once; after a pause there can be many

local function reap_dead_workers(lane)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', lane_key(lane, 'leases'), '-inf', now)) do
    count('crashes')
    if made_progress(id) then redis.call('HSET', job_key(id), 'crashes', 0) end
    if redis.call('HINCRBY', job_key(id), 'crashes', 1) < tonumber(max_crashes) then
      requeue(id, lane)
    else
      add_dead_letter(id, now)
      fail(id, lane, lost_error, now, ttl_s)
    end
  end
end

local function end_waiting(lane)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', lane_key(lane, 'deadlines'), '-inf', now)) do
    fail(id, lane, expired_error, now, ttl_s)
  end
  for _, id in ipairs(redis.call('SMEMBERS', lane_key(lane, 'unread'))) do
    if redis.call('HGET', job_key(id), 'state') == 'queued' and not has_reader(id, now) then
      cancel_queued(id, lane, cancelled, now, ttl_s)
    end
  end
end

-- A job dispatched long ago although the Celery queue is empty, or on another server: a worker received the message and
-- died. If it only waits elsewhere, a second message does no harm.
local function requeue_lost(lane)
  if has_queues == '1' and num_messages(lane) > 0 then return end
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', lane_key(lane, 'dispatched'), '-inf', now - stale_message_ms)) do
    requeue(id, lane)
  end
end

local may_be_dead = leases_count(now)
for _, lane in ipairs(lanes) do
  check_running(lane)
  if may_be_dead then reap_dead_workers(lane) end
  end_waiting(lane)
  requeue_lost(lane)
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', ROOT .. ':jobs:expiry', '-inf', now, 'LIMIT', 0, MAX_EXPIRED)) do
  unlist(id)
end
return dispatch_all(lanes, now)
