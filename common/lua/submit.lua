-- ARGV: id, kind, lane, owner, params (JSON), max_queue.  Returns status, position, bells.
local id, kind, lane, owner, params, max_queue = unpack(ARGV)
local now = now_ms()
if redis.call('EXISTS', job_key(id)) == 1 then return {'ok', position(id, lane), {}} end  -- the command was sent twice
if #live_workers(now) == 0 then return {'no_worker', 0, {}} end
if redis.call('ZCARD', lane_key(lane, 'pending')) >= tonumber(max_queue) then return {'queue_full', 0, {}} end

local order = redis.call('INCR', 'slm:jobs:order')
redis.call('HSET', job_key(id), 'id', id, 'kind', kind, 'lane', lane, 'owner', owner, 'params', params,
  'state', 'queued', 'attempt', 0, 'crashes', 0, 'order', order, 'created_ms', now)
redis.call('ZADD', 'slm:jobs:index', now, id)
redis.call('ZADD', lane_key(lane, 'pending'), order, id)
local bells = ring(lane, now)
local place = position(id, lane)
if place > 0 then append(id, 'queued', '{"position": ' .. place .. '}') end
return {'ok', place, bells}
