-- ARGV: id, worker, claim (a token of this call), lease_ms.
-- Returns attempt, number of events in the log; or false when there is nothing to do.
local id, worker, claim, lease_ms = unpack(ARGV)
local held = redis.call('HMGET', job_key(id), 'state', 'attempt', 'claim', 'lane')
local seq = redis.call('LLEN', log_key(id))
if held[1] == 'running' and held[3] == claim then return {tonumber(held[2]), seq} end  -- the command was sent twice
if held[1] ~= 'queued' then return false end

local now = now_ms()
leave_lane(id, held[4])
local attempt = redis.call('HINCRBY', job_key(id), 'attempt', 1)
redis.call('HSET', job_key(id), 'state', 'running', 'worker', worker, 'claim', claim)
redis.call('HSETNX', job_key(id), 'started_ms', now)
redis.call('ZADD', lane_key(held[4], 'leases'), now + lease_ms, id)
return {attempt, seq}
