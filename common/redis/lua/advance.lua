-- ARGV: id, attempt, what it needs now (job.py: Lane), delay (tokens), key that marks its grammar as needing no
-- preparation (may be empty), remember_s, another base (may be empty). Moves a prepared job into the queue of its kind,
-- or a job into the queue of another base.
-- Returns 1 and the wake-up messages to send; -1 if another attempt owns the job.
write_even_when_full()
local id, attempt, need, delay, grammar, remember_s, base = unpack(ARGV)
if not owns(id, attempt) then return {-1, {}} end
if grammar ~= '' then redis.call('SET', key_of(grammar), 1, 'EX', remember_s) end

local now, prepared_in = now_ms(), redis.call('HGET', job_key(id), 'lane')
local lane = base == '' and sibling(prepared_in, need) or lane_of_base(need, base, now)
leave_lane(id, prepared_in)
redis.call('HSET', job_key(id), 'state', 'queued', 'lane', lane)
if base ~= '' then redis.call('HSET', job_key(id), 'base', base) end
redis.call('HDEL', job_key(id), 'worker', 'claim', 'started_ms')
if redis.call('SREM', lane_key(prepared_in, 'unread'), id) == 1 then redis.call('SADD', lane_key(lane, 'unread'), id) end
assign_order(id, lane, flow_of(id), delay)
enqueue(id, lane)
local wake_ups = dispatch_all({lane, prepared_in}, now)
local position = queue_position(id, lane)
if position > 0 then append(id, 'queued', '{"position": ' .. position .. '}') end
return {1, wake_ups}
