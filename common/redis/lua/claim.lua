-- ARGV: id, worker, claim (unique for this call), lease_ms, cancelled event data (JSON), ttl_s.
-- Returns attempt, number of events in the log, ms since the job's first start, the job's record (names and values in
-- turn); or false if there is nothing to do.
-- A job that was accepted before any model was known is resolved by its first attempt: a later one must continue with
-- the same model.
local id, worker, claim, lease_ms, cancelled, ttl_s = unpack(ARGV)
local job = redis.call('HMGET', job_key(id), 'state', 'attempt', 'claim', 'lane', 'model')
local now = now_ms()

local function claimed(attempt)
  local started_ms = redis.call('HGET', job_key(id), 'started_ms')
  return {attempt, redis.call('LLEN', log_key(id)), now - started_ms, redis.call('HGETALL', job_key(id))}
end

if job[1] == 'running' and job[3] == claim then return claimed(tonumber(job[2])) end  -- the command was sent twice
if job[1] ~= 'queued' then return false end

local lane = job[4]
if not has_reader(id, now) then
  cancel_queued(id, lane, cancelled, now, ttl_s)
  return false
end
leave_lane(id, lane)
local _, base = parts_of(lane)
local model = job[5] == '' and tonumber(job[2]) < 1 and resolve_model('')
if model and (base == '' or base == model.base) then
  redis.call('HSET', job_key(id), 'model', model.model, 'base', model.base, 'adapter_id', model.adapter_id)
end
local attempt = redis.call('HINCRBY', job_key(id), 'attempt', 1)
if attempt > 1 then count('failovers') end
redis.call('HSET', job_key(id), 'state', 'running', 'worker', worker, 'claim', claim,
  'attempt_seq', redis.call('LLEN', log_key(id)))
if redis.call('HSETNX', job_key(id), 'started_ms', now) == 1 then note_start(lane, now) end
redis.call('ZADD', lane_key(lane, 'leases'), now + lease_ms, id)
count_running(id, lane, 1)
if redis.call('SISMEMBER', lane_key(lane, 'unread'), id) == 1 then redis.call('SADD', lane_key(lane, 'abandoned'), id) end
return claimed(attempt)
