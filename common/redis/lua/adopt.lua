-- ARGV: base, its lanes' base ('': the common lanes), whether it is the default (0/1), delay of bulk jobs (tokens).
-- Called by the workers of a base. Moves the base's waiting jobs into the lanes that its workers serve, from lanes that
-- nobody serves any more: SLM_MODELS has changed, or the job was accepted before any base was known. The latter are
-- resolved now, and the default base takes them. Returns the wake-up messages to send.
write_even_when_full()
local base, lane_base, is_default, delay = unpack(ARGV)
local now = now_ms()

-- Return whether the job belongs to this base.
local function is_ours(id)
  local job = redis.call('HMGET', job_key(id), 'model', 'base', 'attempt')
  if job[2] and job[2] ~= '' then return job[2] == base end
  local model = job[1] == '' and tonumber(job[3]) < 1 and resolve_model('')
  if not model then return is_default == '1' end
  redis.call('HSET', job_key(id), 'model', model.model, 'base', model.base, 'adapter_id', model.adapter_id)
  return model.base == base
end

local function move(id, from, to)
  leave_lane(id, from)
  if redis.call('SREM', lane_key(from, 'unread'), id) == 1 then redis.call('SADD', lane_key(to, 'unread'), id) end
  redis.call('HSET', job_key(id), 'lane', to)
  assign_order(id, to, flow_of(id), redis.call('HGET', job_key(id), 'bulk') and delay or 0)
  enqueue(id, to)
end

local lanes = {}  -- those that got jobs
for _, need in ipairs({'generate', 'prepare', 'control'}) do
  local to = lane_name(need, lane_base)
  local from = lane_base == '' and lane_name(need, base) or need
  if not is_served(from, now) then
    for _, what in ipairs({'pending', 'dispatched'}) do
      for _, id in ipairs(redis.call('ZRANGE', lane_key(from, what), 0, -1)) do
        if is_ours(id) then
          move(id, from, to)
          lanes[#lanes + 1] = to
        end
      end
    end
  end
end
return dispatch_all(lanes, now)
