-- What a script of this folder uses of this file is prepended to it (scripts.py). Key names: see keys.py.
-- Times are the Redis server's, in ms, so that clocks of different machines are never compared.
-- Subtract from 0 instead of negating: Redis 6 and 7 write -0 as "-0", which their commands refuse as a number.

-- With what all keys begin; a cluster's single slot for them is named by a key that each script declares (cluster.py).
local ROOT = KEYS[1] or 'slm'

-- Return the key with a name of keys.py, which has the usual beginning.
local function key_of(name) return ROOT .. string.sub(name, #'slm' + 1) end

local DISPATCHED_AHEAD = 1  -- jobs dispatched beyond the free capacity: hides a wake-up message's latency (3-5 ms)
local PLACES_PER_RESERVED = 32  -- of that many places, one is kept free for other owners

local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

local function job_key(id) return ROOT .. ':job:' .. id end
local function log_key(id) return ROOT .. ':job:' .. id .. ':log' end
local function lane_key(lane, what) return ROOT .. ':lane:' .. lane .. ':' .. what end

-- Allow the script to write when the memory limit is reached: Redis refuses only a script's first write, and only if
-- that write can use memory. For scripts that keep or end accepted jobs; new work has to wait until there is room.
local function write_even_when_full() redis.call('HDEL', ROOT .. ':awake', '') end

local EVENTS_PER_MESSAGE = 64  -- bounds a published message, and a command's arguments

-- Write events in their wire form (flask-sse's messages) to the log, and publish them: one per line.
local function write_events(id, events)
  redis.call('RPUSH', log_key(id), unpack(events))
  redis.call('PUBLISH', 'slm:job:' .. id .. ':events', table.concat(events, '\n'))
end

local function wire_event(seq, kind, data)
  return '{"data": ' .. data .. ', "type": "' .. kind .. '", "id": "' .. seq .. '"}'
end

-- Append one event; `data` is JSON text.
local function append(id, kind, data)
  write_events(id, {wire_event(redis.call('LLEN', log_key(id)), kind, data)})
end

-- Append the events ARGV[first_arg..last_arg] = type, data, type, data, ..., the first with seq `first_seq`. Skips
-- events that the log already has (the command was sent twice). Returns the next seq, or nil if events before
-- `first_seq` are missing.
local function append_from(id, first_seq, first_arg, last_arg)
  local seq = redis.call('LLEN', log_key(id))
  if seq < first_seq then return nil end
  local events = {}
  for i = first_arg + 2 * (seq - first_seq), last_arg, 2 do
    events[#events + 1] = wire_event(seq, ARGV[i], ARGV[i + 1])
    seq = seq + 1
    if #events == EVENTS_PER_MESSAGE then
      write_events(id, events)
      events = {}
    end
  end
  if #events > 0 then write_events(id, events) end
  return seq
end

local function live_workers(now)
  return redis.call('ZRANGEBYSCORE', ROOT .. ':workers', now, '+inf')
end

-- The name of a lane: what its jobs need (`generate`, `prepare`, `control`, ...), and if the workers of a base model
-- have their own lanes, the base: `generate:chat`. Returns both; without a base, ''.
local function parts_of(lane) return string.match(lane, '^([^:]+):?(.*)$') end

local function lane_name(need, base) return base == '' and need or need .. ':' .. base end

-- Return the lane of the same base for another need.
local function sibling(lane, need)
  local _, base = parts_of(lane)
  return lane_name(need, base)
end

-- Return the Celery queue of the workers that serve a lane.
local function queue_of(lane)
  local need, base = parts_of(lane)
  if base ~= '' then return 'slm.' .. base end
  return (need == 'generate' or need == 'prepare') and 'slm' or 'slm.' .. need
end

-- Return how many messages wait in the Celery queue of a lane.
local function num_messages(lane)
  local queue = queue_of(lane)
  return redis.call('LLEN', KEYS[1] and ROOT .. ':' .. queue or queue)
end

local SERVICE_MS = 1000  -- how long a sum of places is used; a worker of an older version changes places without a word

local function count_service(lane, now)
  local workers, places = 0, 0
  for _, worker in ipairs(live_workers(now)) do
    local own = redis.call('HGET', lane_key(lane, 'places'), worker)
    if own then workers, places = workers + 1, places + own end
  end
  return workers, places
end

-- Return how many live workers serve a lane, and how many places they have: jobs that they run at once. The sums are
-- kept, because every request needs them several times, and there may be a thousand workers.
local function service_of(lane, now)
  local live = redis.call('ZCOUNT', ROOT .. ':workers', now, '+inf')
  local known = redis.call('HMGET', lane_key(lane, 'service'), 'live', 'until_ms', 'workers', 'places')
  local left_ms = tonumber(known[2] or 0) - now  -- too long if the clock was set back
  if known[1] == tostring(live) and left_ms > 0 and left_ms <= SERVICE_MS then
    return tonumber(known[3]), tonumber(known[4])
  end
  local workers, places = count_service(lane, now)
  write_even_when_full()
  redis.call('HSET', lane_key(lane, 'service'), 'live', live, 'until_ms', now + SERVICE_MS,
    'workers', workers, 'places', places)
  return workers, places
end

-- Note how many jobs of a lane a worker runs at once. Called with each heartbeat, before the worker counts as alive.
local function note_places(worker, lane, places, now)
  redis.call('SADD', ROOT .. ':lanes', lane)
  local before = redis.call('HGET', lane_key(lane, 'places'), worker)
  local alive_until = redis.call('ZSCORE', ROOT .. ':workers', worker)
  if before == places and alive_until and tonumber(alive_until) >= now then return end
  redis.call('HSET', lane_key(lane, 'places'), worker, places)
  redis.call('DEL', lane_key(lane, 'service'))
end

local function is_served(lane, now) return service_of(lane, now) > 0 end

local OF_BASES = {generate = true, prepare = true, control = true}  -- the needs that the workers of a base meet

-- Return the lane for jobs of a base: its own, or the common one if its workers have none of their own.
local function lane_of_base(need, base, now)
  if not OF_BASES[need] then return need end
  local own = lane_name(need, base)
  return is_served('generate', now) and not is_served(own, now) and need or own
end

-- Return how many jobs of a lane may be dispatched or running at once.
local function lane_limit(lane, now)
  local need = parts_of(lane)
  if need == 'control' then return math.huge end
  local _, places = service_of(lane, now)
  return need == 'generate' and places + DISPATCHED_AHEAD or places
end

local function model_key(base) return base == '' and ROOT .. ':model' or ROOT .. ':model:' .. base end

-- Change the desired state of a base model; returns its generation.
local function desire(base, loaded)
  redis.call('HSET', model_key(base), 'loaded', loaded)
  redis.call('HDEL', model_key(base), 'idle_ms')
  local generation = redis.call('HINCRBY', model_key(base), 'generation', 1)
  redis.call('PUBLISH', 'slm:control', cjson.encode({model = generation}))
  return generation
end

-- Forget a worker that has left or died.
local function forget_worker(worker)
  redis.call('ZREM', ROOT .. ':workers', worker)
  for _, lane in ipairs(redis.call('SMEMBERS', ROOT .. ':lanes')) do redis.call('HDEL', lane_key(lane, 'places'), worker) end
end

-- Return the name of a flow: the jobs of one owner and priority. See fair_share.py.
local function flow_name(owner, bulk) return owner .. (bulk and ':bulk' or ':interactive') end

local function flow_of(id)
  local job = redis.call('HMGET', job_key(id), 'owner', 'bulk')
  return flow_name(job[1], job[2])
end

local function flow_key(lane, flow) return lane_key(lane, 'flow:' .. flow) end

-- Return when a job ends in virtual time. Jobs from a server version without fair share have no virtual time.
local function virtual_end(id)
  local job = redis.call('HMGET', job_key(id), 'virtual_start', 'cost')
  return (job[1] or 0) + (job[2] or 0)
end

-- Return when the next job of a flow starts in virtual time: after the flow's last job, waiting or dispatched, but not
-- in the past. Jobs that left the queue without being dispatched do not count.
local function virtual_start(lane, flow)
  local present = tonumber(redis.call('GET', lane_key(lane, 'virtual')) or 0)
  local last_end = tonumber(redis.call('ZSCORE', lane_key(lane, 'flow_ends'), flow) or 0)
  local last = redis.call('ZREVRANGE', flow_key(lane, flow), 0, 0)[1]
  return math.max(present, last_end, last and virtual_end(last) or 0)
end

local function join_flow(id, lane, order)
  local flow = flow_of(id)
  redis.call('ZADD', flow_key(lane, flow), order, id)
  redis.call('SADD', lane_key(lane, 'flows'), flow)
end

local function leave_flow(id, lane)
  local flow = flow_of(id)
  redis.call('ZREM', flow_key(lane, flow), id)
  if redis.call('EXISTS', flow_key(lane, flow)) == 0 then redis.call('SREM', lane_key(lane, 'flows'), flow) end
end

-- Advance virtual time to the start of a job that is dispatched, and forget the flows that it has passed.
local function note_dispatch(id, lane)
  local flow_ends, virtual = lane_key(lane, 'flow_ends'), lane_key(lane, 'virtual')
  local start = tonumber(redis.call('HGET', job_key(id), 'virtual_start') or 0)
  local present = math.max(start, tonumber(redis.call('GET', virtual) or 0))
  local last_end = math.max(virtual_end(id), tonumber(redis.call('ZSCORE', flow_ends, flow_of(id)) or 0))
  redis.call('SET', virtual, string.format('%.0f', present))
  redis.call('ZADD', flow_ends, string.format('%.0f', last_end), flow_of(id))
  redis.call('ZREMRANGEBYSCORE', flow_ends, '-inf', string.format('%.0f', present))
end

-- Return whether the queue has room for another job of the flow. A full queue still accepts flows below their equal
-- share.
local function has_room(lane, flow, max_queue)
  if redis.call('ZCARD', lane_key(lane, 'pending')) < max_queue then return true end
  local waiting = redis.call('ZCARD', flow_key(lane, flow))
  local flows = redis.call('SCARD', lane_key(lane, 'flows')) + (waiting == 0 and 1 or 0)
  return waiting * flows < max_queue
end

local UNREAD_DELAY = 1e12  -- tokens; jobs that nobody reads wait after all others, until their grace period is over

-- Return the job's score in the queue.
local function queue_score(id, lane)
  local order = redis.call('HGET', job_key(id), 'order')
  if redis.call('SISMEMBER', lane_key(lane, 'unread'), id) == 0 then return order end
  return string.format('%.4f', order + UNREAD_DELAY)
end

local YIELD_MS = 2000  -- a job that still runs this long after it was asked to yield is asked again

-- Return how many dispatched jobs of a lane exceed the capacity, so that they wait inside their worker.
local function waiting_inside(lane, now)
  local dispatched = redis.call('ZCARD', lane_key(lane, 'dispatched')) + redis.call('ZCARD', lane_key(lane, 'leases'))
  return math.max(0, dispatched - (lane_limit(lane, now) - DISPATCHED_AHEAD))
end

-- Ask running jobs that nobody reads to yield: one for each job that waits inside a worker, and one for each queued job
-- that somebody reads. Their workers release them, and they continue when they are dispatched again.
local function ask_to_yield(lane, now)
  local abandoned, yielding = lane_key(lane, 'abandoned'), lane_key(lane, 'yielding')
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', yielding, '-inf', now - YIELD_MS)) do
    redis.call('ZREM', yielding, id)
    if redis.call('SISMEMBER', lane_key(lane, 'unread'), id) == 1 then redis.call('SADD', abandoned, id) end
  end
  local queued = redis.call('ZCOUNT', lane_key(lane, 'pending'), '-inf', UNREAD_DELAY)
  for _ = 1, waiting_inside(lane, now) + queued - redis.call('ZCARD', yielding) do
    local id = redis.call('SPOP', abandoned)
    if not id then return end
    redis.call('ZADD', yielding, now, id)
    redis.call('PUBLISH', 'slm:control', cjson.encode({yield = id}))
  end
end

-- Add a job that is dispatched or running to the sums of its flow, or (-1) take it out of them. With them nobody has to
-- look at all jobs that run.
local function count_running(id, lane, change)
  local job = redis.call('HMGET', job_key(id), 'owner', 'bulk', 'cost')
  local flow = flow_name(job[1] or '', job[2])
  local left = redis.call('HINCRBY', lane_key(lane, 'running'), flow, change)
  redis.call('HINCRBYFLOAT', lane_key(lane, 'running_cost'), flow, change * (job[3] or 0))
  if left > 0 then return end
  redis.call('HDEL', lane_key(lane, 'running'), flow)
  redis.call('HDEL', lane_key(lane, 'running_cost'), flow)
end

-- Count all of it again if the sums are wrong: jobs of a worker of an older version are not in them.
local function check_running(lane)
  local counted, there = 0, 0
  for _, number in ipairs(redis.call('HVALS', lane_key(lane, 'running'))) do counted = counted + number end
  for _, what in ipairs({'dispatched', 'leases'}) do there = there + redis.call('ZCARD', lane_key(lane, what)) end
  if counted == there then return end
  redis.call('DEL', lane_key(lane, 'running'), lane_key(lane, 'running_cost'))
  for _, what in ipairs({'dispatched', 'leases'}) do
    for _, id in ipairs(redis.call('ZRANGE', lane_key(lane, what), 0, -1)) do count_running(id, lane, 1) end
  end
end

-- Return how many jobs of an owner are dispatched or running in a lane.
local function num_running(lane, owner)
  local numbers = redis.call('HMGET', lane_key(lane, 'running'), flow_name(owner, false), flow_name(owner, true))
  return (numbers[1] or 0) + (numbers[2] or 0)
end

-- Return the next job of a lane in which one owner may not have all places: a useless preparation may last seconds, and
-- so may the vectors of thousands of texts.
local function next_shared(lane, limit)
  local most, first, order = math.max(1, limit - 1), nil, math.huge
  for _, flow in ipairs(redis.call('SMEMBERS', lane_key(lane, 'flows'))) do
    local id, its_order = unpack(redis.call('ZRANGE', flow_key(lane, flow), 0, 0, 'WITHSCORES'))
    local owner = id and redis.call('HGET', job_key(id), 'owner') or ''
    if id and num_running(lane, owner) < most and tonumber(its_order) < order then
      first, order = id, tonumber(its_order)
    end
  end
  return first
end

local MAX_LOOKED_AT = 100  -- jobs of a flow that are examined for one that somebody reads

-- Return the flow's first job that somebody reads; if there is none, its first job.
local function first_of_flow(lane, flow)
  local ids = redis.call('ZRANGE', flow_key(lane, flow), 0, MAX_LOOKED_AT - 1)
  for _, id in ipairs(ids) do
    if redis.call('SISMEMBER', lane_key(lane, 'unread'), id) == 0 then return id end
  end
  return ids[1]
end

-- Return the first job in the queue of an owner with fewer than `most` jobs dispatched or running. Jobs that nobody
-- reads wait even for jobs that may not start: they have yielded to those, and would start and yield forever.
local function first_below(lane, most)
  local pending = lane_key(lane, 'pending')
  local function may_start(id) return num_running(lane, redis.call('HGET', job_key(id), 'owner') or '') < most end
  local next_id = redis.call('ZRANGE', pending, 0, 0)[1]
  if not next_id or may_start(next_id) then return next_id end  -- the usual case: do not look at every flow
  local has_read_jobs = redis.call('ZCOUNT', pending, '-inf', UNREAD_DELAY) > 0
  local first, order = nil, has_read_jobs and UNREAD_DELAY or math.huge
  for _, flow in ipairs(redis.call('SMEMBERS', lane_key(lane, 'flows'))) do
    local id = first_of_flow(lane, flow)
    local its_order = id and tonumber(redis.call('ZSCORE', pending, id)) or math.huge
    if its_order < order and may_start(id) then
      first, order = id, its_order
    end
  end
  return first
end

-- Return the next job to generate. One owner may not have all places, so that another need not wait for one of its
-- jobs to end. A small fleet keeps none free, because each place is a large part of it; nor does one with a single
-- owner.
local function next_to_generate(lane, limit, room)
  local capacity = limit - DISPATCHED_AHEAD
  local has_others = redis.call('HLEN', ROOT .. ':api_keys') > 1
  local reserved = has_others and math.floor(capacity / PLACES_PER_RESERVED) or 0
  if reserved == 0 or room > DISPATCHED_AHEAD + reserved then
    return redis.call('ZRANGE', lane_key(lane, 'pending'), 0, 0)[1]
  end
  return first_below(lane, capacity - reserved)
end

local function next_job(lane, limit, room)
  local need = parts_of(lane)
  if need == 'prepare' or need == 'embed' then return next_shared(lane, limit) end
  if need == 'generate' then return next_to_generate(lane, limit, room) end
  return redis.call('ZRANGE', lane_key(lane, 'pending'), 0, 0)[1]
end

-- Dispatch jobs: take the next ones out of `pending`. Returns id, kind, model, base, Celery queue, id, ...: the caller
-- sends the wake-up messages.
local function dispatch(lane, now)
  local is_generation = parts_of(lane) == 'generate'
  local pending, dispatched, limit = lane_key(lane, 'pending'), lane_key(lane, 'dispatched'), lane_limit(lane, now)
  local room = limit - redis.call('ZCARD', dispatched) - redis.call('ZCARD', lane_key(lane, 'leases'))
  local wake_ups = {}
  while room > 0 do
    local id = next_job(lane, limit, room)
    if not id then break end
    -- Do not dispatch an unread job ahead of free capacity: while it waited, it would make others yield.
    local is_early = is_generation and room <= DISPATCHED_AHEAD
    if is_early and redis.call('SISMEMBER', lane_key(lane, 'unread'), id) == 1 then break end
    redis.call('ZREM', pending, id)
    leave_flow(id, lane)
    note_dispatch(id, lane)
    redis.call('ZADD', dispatched, now, id)
    count_running(id, lane, 1)
    local job = redis.call('HMGET', job_key(id), 'kind', 'model', 'base')
    for _, value in ipairs({id, job[1], job[2] or '', job[3] or '', queue_of(lane)}) do wake_ups[#wake_ups + 1] = value end
    room = room - 1
  end
  if is_generation then ask_to_yield(lane, now) end
  return wake_ups
end

-- Dispatch the jobs of several lanes; returns as `dispatch`.
local function dispatch_all(lanes, now)
  local wake_ups = {}
  for _, lane in ipairs(lanes) do
    for _, value in ipairs(dispatch(lane, now)) do wake_ups[#wake_ups + 1] = value end
  end
  return wake_ups
end

-- Return the queue position: 1 is next, 0 is dispatched. Jobs to be prepared count after all jobs that only wait for
-- free capacity.
local function queue_position(id, lane)
  local rank = redis.call('ZRANK', lane_key(lane, 'pending'), id)
  local is_preparation = parts_of(lane) == 'prepare'
  local ahead = is_preparation and redis.call('ZCARD', lane_key(sibling(lane, 'generate'), 'pending')) or 0
  return rank and rank + 1 + ahead or 0
end

local function leave_lane(id, lane)
  if redis.call('ZREM', lane_key(lane, 'pending'), id) == 1 then leave_flow(id, lane) end
  for _, what in ipairs({'dispatched', 'leases'}) do
    if redis.call('ZREM', lane_key(lane, what), id) == 1 then count_running(id, lane, -1) end
  end
  for _, what in ipairs({'deadlines', 'yielding'}) do redis.call('ZREM', lane_key(lane, what), id) end
  redis.call('SREM', lane_key(lane, 'abandoned'), id)
end

-- Put a job into the queue, with its deadline if it has one.
local function enqueue(id, lane)
  local job = redis.call('HMGET', job_key(id), 'order', 'expires_ms')
  redis.call('SADD', ROOT .. ':lanes', lane)
  redis.call('ZADD', lane_key(lane, 'pending'), queue_score(id, lane), id)
  join_flow(id, lane, job[1])
  if job[2] then redis.call('ZADD', lane_key(lane, 'deadlines'), job[2], id) end
end

-- Return the tokens of a flow's jobs that are dispatched or running for the same need on other base models.
local function cost_elsewhere(lane, flow)
  local need, cost = parts_of(lane), 0
  for _, other in ipairs(redis.call('SMEMBERS', ROOT .. ':lanes')) do
    if other ~= lane and parts_of(other) == need then
      cost = cost + (redis.call('HGET', lane_key(other, 'running_cost'), flow) or 0)
    end
  end
  return cost
end

-- Set a job's order in a lane: the virtual time when its owner's last job there ends (fair_share.py), and as much later
-- as the owner's running jobs on other bases cost. Bulk jobs come `delay` later, so they wait but never starve. The
-- fraction orders jobs with the same virtual start by arrival.
local function assign_order(id, lane, flow, delay)
  local start = virtual_start(lane, flow) + cost_elsewhere(lane, flow)
  local arrival = redis.call('HGET', job_key(id), 'arrival') % 1000 / 1000
  redis.call('HSET', job_key(id), 'virtual_start', string.format('%.0f', start),
    'order', string.format('%.4f', start + delay + arrival))
end

local MAX_STARTS = 64  -- start times per lane, newest first, from which the drain rate is measured

local function note_start(lane, now)
  redis.call('LPUSH', lane_key(lane, 'starts'), now)
  redis.call('LTRIM', lane_key(lane, 'starts'), 0, MAX_STARTS - 1)
end

-- Return a job to its old position in the queue.
local function requeue(id, lane)
  leave_lane(id, lane)
  redis.call('HSET', job_key(id), 'state', 'queued')
  redis.call('HDEL', job_key(id), 'worker', 'claim')
  enqueue(id, lane)
end

-- Increment a counter for /metrics (`keys.COUNTERS`).
local function count(what) redis.call('HINCRBY', ROOT .. ':counters', what, 1) end

local function webhooks_key(id) return ROOT .. ':webhooks:due:' .. redis.call('HGET', job_key(id), 'owner') end

-- Schedule the job's webhook, if it has one.
local function schedule_webhook(id, now)
  if redis.call('HEXISTS', job_key(id), 'webhook_url') == 0 then return end
  redis.call('ZADD', webhooks_key(id), now, id)
  redis.call('SADD', ROOT .. ':webhooks:owners', redis.call('HGET', job_key(id), 'owner'))
end

-- Set a training run aside until it is resumed. Its checkpoints stay.
local function set_aside(id, lane)
  leave_lane(id, lane)
  redis.call('HSET', job_key(id), 'state', 'paused')
  redis.call('HDEL', job_key(id), 'worker', 'claim', 'pause')
  redis.call('SADD', ROOT .. ':jobs:paused', id)
  append(id, 'status', '{"status": "Paused"}')
end

-- Enter a terminal state. Call before the terminal event is appended: readers that see the event must see the state.
local function close(id, lane, state, now)
  leave_lane(id, lane)
  redis.call('SREM', ROOT .. ':jobs:paused', id)
  redis.call('SREM', lane_key(lane, 'unread'), id)
  redis.call('HSET', job_key(id), 'state', state, 'finished_ms', now)
  count('jobs:' .. redis.call('HGET', job_key(id), 'kind') .. ':' .. state)
  redis.call('SREM', ROOT .. ':jobs:open:' .. redis.call('HGET', job_key(id), 'owner'), id)
  schedule_webhook(id, now)
end

local BYTES_PER_EVENT = 100  -- overhead of a log entry, without its text

-- Add bytes that a job takes in Redis to its owner's total.
local function add_bytes(id, bytes)
  redis.call('HINCRBY', ROOT .. ':jobs:bytes', id, bytes)
  redis.call('HINCRBY', ROOT .. ':owners:bytes', redis.call('HGET', ROOT .. ':jobs:owners', id), bytes)
end

-- Delete a job's params, which are not needed if the job has no result.
local function drop_body(id)
  local bytes = redis.call('HSTRLEN', job_key(id), 'params')
  redis.call('HDEL', job_key(id), 'params')
  add_bytes(id, 0 - bytes)
end

-- Let a closed job's record expire; call after its last event. Does nothing while its webhook is pending or the job is
-- in the dead letters: this is called again when that ends.
local function expire(id, now, ttl_s)
  if redis.call('ZSCORE', webhooks_key(id), id) or redis.call('ZSCORE', ROOT .. ':jobs:dead_letters', id) then return end
  ttl_s = redis.call('HGET', job_key(id), 'keep_s') or ttl_s
  redis.call('ZADD', ROOT .. ':jobs:expiry', now + ttl_s * 1000, id)
  redis.call('EXPIRE', job_key(id), ttl_s)
  redis.call('EXPIRE', log_key(id), ttl_s)
  if redis.call('HEXISTS', job_key(id), 'result') == 0 then drop_body(id) end
  local idempotency = redis.call('HGET', job_key(id), 'idempotency')
  if idempotency then redis.call('EXPIRE', key_of(idempotency), ttl_s) end
end

local PLACES = 10000  -- of deleted items that are kept for each listing
local PLACES_S = 3600

-- Remove an item from a listing. Its place among the others is kept, for who is reading them page by page.
local function delist(listing, id)
  local deleted, place = ROOT .. ':deleted:' .. string.sub(listing, #ROOT + 2), redis.call('ZSCORE', listing, id)
  if not place then return end
  redis.call('ZREM', listing, id)
  redis.call('ZADD', deleted, place, id)
  redis.call('ZREMRANGEBYRANK', deleted, 0, 0 - PLACES - 1)
  redis.call('EXPIRE', deleted, PLACES_S)
end

-- Add a new job to the global and its owner's listings.
local function list(id, owner, now)
  redis.call('ZADD', ROOT .. ':jobs:index', now, id)
  redis.call('ZADD', ROOT .. ':jobs:index:' .. owner, now, id)
  redis.call('HSET', ROOT .. ':jobs:owners', id, owner)
  redis.call('SADD', ROOT .. ':jobs:open:' .. owner, id)
end

-- Remove a job from the listings. Its record may have expired already.
local function unlist(id)
  local owner = redis.call('HGET', ROOT .. ':jobs:owners', id)
  if owner then
    redis.call('ZREM', ROOT .. ':jobs:index:' .. owner, id)
    delist(ROOT .. ':training:' .. owner, id)
    redis.call('HINCRBY', ROOT .. ':owners:bytes', owner, 0 - (redis.call('HGET', ROOT .. ':jobs:bytes', id) or 0))
  end
  redis.call('HDEL', ROOT .. ':jobs:owners', id)
  redis.call('HDEL', ROOT .. ':jobs:bytes', id)
  redis.call('ZREM', ROOT .. ':jobs:index', id)
  redis.call('ZREM', ROOT .. ':jobs:expiry', id)
end

local OLDEST = 200  -- how many of an owner's oldest jobs are examined to make room

-- Delete ended jobs of an owner, oldest first, until the texts of all jobs take at most `most` bytes. Returns whether
-- that succeeded.
local function make_room(owner, most)
  local function is_enough() return tonumber(redis.call('HGET', ROOT .. ':owners:bytes', owner) or 0) <= most end
  if is_enough() then return true end
  for _, id in ipairs(redis.call('ZRANGE', ROOT .. ':jobs:index:' .. owner, 0, OLDEST - 1)) do
    if redis.call('ZSCORE', ROOT .. ':jobs:expiry', id) then
      redis.call('UNLINK', job_key(id), log_key(id))
      unlist(id)
      if is_enough() then return true end
    end
  end
  return false
end

local DAY_MS = 86400000

local function tokens_key(owner, now) return ROOT .. ':tokens:' .. owner .. ':' .. math.floor(now / DAY_MS) end

-- Return the key of the tokens reserved for an owner's open jobs.
local function reserved_key(owner) return ROOT .. ':tokens:' .. owner .. ':reserved' end

-- Reserve tokens for a job until it ends, so that concurrent jobs cannot exceed the limit together.
local function reserve(id, owner, tokens)
  redis.call('HSET', job_key(id), 'reserved', tokens)
  redis.call('INCRBY', reserved_key(owner), tokens)
end

local function free_reserved(id, owner)
  local tokens = redis.call('HGET', job_key(id), 'reserved')
  redis.call('HDEL', job_key(id), 'reserved')
  if not tokens or redis.call('DECRBY', reserved_key(owner), tokens) > 0 then return end
  redis.call('DEL', reserved_key(owner))
end

-- Charge an ended job to its owner's account. Called once per job, with its terminal state.
local function account(id, prompt_tokens, completion_tokens)
  local owner, now = redis.call('HGET', job_key(id), 'owner'), now_ms()
  free_reserved(id, owner)
  redis.call('INCRBY', tokens_key(owner, now), prompt_tokens + completion_tokens)
  redis.call('PEXPIRE', tokens_key(owner, now), DAY_MS)
  local usage = ROOT .. ':usage:' .. owner
  redis.call('HINCRBY', usage, 'jobs', 1)
  redis.call('HINCRBY', usage, 'prompt_tokens', prompt_tokens)
  redis.call('HINCRBY', usage, 'completion_tokens', completion_tokens)
end

-- Count the tokens in a job's log; for jobs without a result, which are few.
local function committed_tokens(id)
  local tokens = 0
  for _, message in ipairs(redis.call('LRANGE', log_key(id), 0, -1)) do
    local event = cjson.decode(message)
    if event.type == 'token' then tokens = tokens + #event.data.ids end
  end
  return tokens
end

local function conversation_key(id) return ROOT .. ':conversation:' .. id end

local BYTES_PER_MESSAGE = 200  -- overhead of a message in a conversation, without its text

-- Note that a conversation has changed, and count the bytes that were added to it.
local function note_conversation(id, bytes, now)
  local key = conversation_key(id)
  local owner = redis.call('HGET', key, 'owner')
  redis.call('HSET', key, 'updated_ms', now)
  redis.call('HINCRBY', key, 'bytes', bytes)
  redis.call('HINCRBY', ROOT .. ':conversations:bytes', owner, bytes)
  redis.call('ZADD', ROOT .. ':conversations:of:' .. owner, now, id)
  redis.call('ZADD', ROOT .. ':conversations:by_time', now, id)
end

-- Return the limit that more bytes or messages in a conversation would exceed; '' if none. A limit may be empty.
local function exceeded(id, messages, bytes, most_messages, most_bytes)
  local key = conversation_key(id)
  if most_messages ~= '' and redis.call('HLEN', key .. ':tree') + messages > tonumber(most_messages) then
    return 'messages'
  end
  local taken = redis.call('HGET', ROOT .. ':conversations:bytes', redis.call('HGET', key, 'owner')) or 0
  return most_bytes ~= '' and bytes > 0 and taken + bytes > tonumber(most_bytes) and 'bytes' or ''
end

-- Add a message (JSON) to a conversation after its parent ('': none), and show it.
local function add_message(id, message, parent, created, text, now)
  local key = conversation_key(id)
  local number = redis.call('HINCRBY', key, 'last', 1)
  redis.call('HSET', key .. ':tree', message, number .. ' ' .. created .. ' ' .. parent)
  redis.call('HSET', key .. ':messages', message, text)
  redis.call('HSET', key, 'leaf', message)
  note_conversation(id, #text + BYTES_PER_MESSAGE, now)
end

local function has_message(id, message)
  return redis.call('HEXISTS', conversation_key(id) .. ':tree', message) == 1
end

-- Let a job write a message of a conversation.
local function begin_answer(id, conversation, message, now)
  local text = cjson.encode({job_id = id})
  redis.call('HSET', job_key(id), 'conversation', conversation, 'message', message)
  redis.call('HSET', conversation_key(conversation) .. ':answers', message, text)
  note_conversation(conversation, #text, now)
end

-- Return the text in an ended job's log, and how its calls of tools and its reasoning are written, if it may have any.
local function logged_answer(id)
  local pieces, tool_form, reasoning = {}, nil, nil
  for _, message in ipairs(redis.call('LRANGE', log_key(id), 0, -1)) do
    local event = cjson.decode(message)
    if event.type == 'token' then pieces[#pieces + 1] = event.data.text end
    tool_form = tool_form or event.data.tool_form
    reasoning = reasoning or event.data.reasoning
  end
  return table.concat(pieces), tool_form, reasoning
end

-- Keep the answer of an ended job in its conversation, where it outlives the job. Call after the job's last event.
local function keep_answer(id)
  local job = redis.call('HMGET', job_key(id), 'conversation', 'message', 'state', 'result', 'error', 'model')
  if not job[1] or not has_message(job[1], job[2]) then return end  -- in no conversation, or deleted meanwhile
  local answers, result = conversation_key(job[1]) .. ':answers', cjson.decode(job[4] or '{}')
  local text, tool_form, reasoning = logged_answer(id)
  local answer = cjson.encode({
    job_id = id, state = job[3], text = text, tool_form = tool_form, error = job[5] or nil, model = job[6] or nil,
    finish_reason = result.finish_reason, prompt_tokens = result.prompt_tokens,
    completion_tokens = result.completion_tokens, reasoning = reasoning,
  })
  local more = #answer - redis.call('HSTRLEN', answers, job[2])
  redis.call('HSET', answers, job[2], answer)
  note_conversation(job[1], more, now_ms())
end

-- Delete a message, and all after it unless they are kept: then they follow its parent. Returns how many were deleted.
local function cut_messages(id, message, keeps_replies)
  local key = conversation_key(id)
  local places, parents, replies = redis.call('HGETALL', key .. ':tree'), {}, {}
  for i = 1, #places, 2 do
    local parent = string.match(places[i + 1], '^%d+ %d+ (.*)$')
    parents[places[i]] = parent
    replies[parent] = replies[parent] or {}
    table.insert(replies[parent], places[i])
  end
  local parent = parents[message]
  if not parent then return 0 end

  local function bytes_of(one)
    local text, answer = redis.call('HSTRLEN', key .. ':messages', one), redis.call('HSTRLEN', key .. ':answers', one)
    return text + answer + BYTES_PER_MESSAGE
  end

  local gone, freed, leaf = {message}, 0, redis.call('HGET', key, 'leaf')
  for _, one in ipairs(gone) do  -- grows meanwhile
    for _, reply in ipairs(replies[one] or {}) do
      if not keeps_replies then
        gone[#gone + 1] = reply
      else
        local place = string.match(redis.call('HGET', key .. ':tree', reply), '^(%d+ %d+ )')
        redis.call('HSET', key .. ':tree', reply, place .. parent)
      end
    end
  end
  for _, one in ipairs(gone) do
    freed = freed + bytes_of(one)
    for _, part in ipairs({'tree', 'messages', 'answers'}) do redis.call('HDEL', key .. ':' .. part, one) end
    if one == leaf then redis.call('HSET', key, 'leaf', parent) end
  end
  note_conversation(id, 0 - freed, now_ms())
  return #gone
end

-- Delete a conversation. Its running jobs continue, but write to it no more.
local function forget_conversation(id)
  local key = conversation_key(id)
  local owner, bytes = unpack(redis.call('HMGET', key, 'owner', 'bytes'))
  if not owner then return end
  if redis.call('HINCRBY', ROOT .. ':conversations:bytes', owner, 0 - (bytes or 0)) <= 0 then
    redis.call('HDEL', ROOT .. ':conversations:bytes', owner)
  end
  delist(ROOT .. ':conversations:of:' .. owner, id)
  redis.call('ZREM', ROOT .. ':conversations:by_time', id)
  redis.call('UNLINK', key, key .. ':tree', key .. ':messages', key .. ':answers')
end

-- Charge an ended job and keep its answer. Called once per job, after its last event.
local function settle(id, prompt_tokens, completion_tokens)
  account(id, prompt_tokens, completion_tokens)
  keep_answer(id)
end

-- Fail a job that has no worker with an error (JSON).
local function fail(id, lane, err, now, ttl_s)
  redis.call('HSET', job_key(id), 'error', err)
  close(id, lane, 'failed', now)
  append(id, 'error', err)
  expire(id, now, ttl_s)
  settle(id, 0, committed_tokens(id))
end

-- Cancel a queued job; `last` is the data of its terminal event (JSON).
local function cancel_queued(id, lane, last, now, ttl_s)
  close(id, lane, 'cancelled', now)
  append(id, 'finished', last)
  expire(id, now, ttl_s)
  settle(id, 0, committed_tokens(id))
end

local function file_key(id) return ROOT .. ':file:' .. id end

-- Remove the data of a deleted file, unless an open batch reads it.
local function remove_unused(id)
  local file = redis.call('HMGET', file_key(id), 'owner', 'is_deleted')
  if not file[2] or redis.call('SCARD', file_key(id) .. ':batches') > 0 then return end
  redis.call('DEL', file_key(id), file_key(id) .. ':lines', file_key(id) .. ':batches')
  redis.call('HDEL', ROOT .. ':files:bytes:' .. file[1], id)
end

-- Delete the feedback on a job, if there is any; the owner's sum of sizes is the field ''.
local function forget_feedback(id, owner)
  local sizes_key = ROOT .. ':feedback:bytes:' .. owner
  redis.call('HINCRBY', sizes_key, '', 0 - (redis.call('HGET', sizes_key, id) or 0))
  redis.call('HDEL', sizes_key, id)
  if redis.call('HLEN', sizes_key) == 1 then redis.call('DEL', sizes_key) end
  redis.call('ZREM', ROOT .. ':feedback:by_time', id)
  redis.call('ZREM', ROOT .. ':feedback:of:' .. owner, id)
  redis.call('DEL', ROOT .. ':feedback:job:' .. id)
end

-- Add a job to the dead letters; its record is kept until an operator decides. Called before the job ends.
local function add_dead_letter(id, now)
  redis.call('ZADD', ROOT .. ':jobs:dead_letters', now, id)
  count('quarantined')
end

-- Remove a job from the dead letters; its record then expires like any other. Returns whether it was there.
local function drop(id, now, ttl_s)
  if redis.call('ZREM', ROOT .. ':jobs:dead_letters', id) == 0 then return false end
  expire(id, now, ttl_s)
  return true
end

-- Return since when processes of a kind (`worker`, `api`) have sent heartbeats without a gap: `now` during a gap, 0 if
-- none ever did. During a gap all of them were away, or this server was.
local function awake_since(kind, now)
  local beats = redis.call('HMGET', ROOT .. ':awake', kind .. ':last', kind .. ':since', kind .. ':gap_ms')
  if not beats[1] then return 0 end
  return now - beats[1] < tonumber(beats[3]) and tonumber(beats[2]) or now
end

local function note_beat(kind, now, gap_ms)
  local since = awake_since(kind, now)
  redis.call('HSET', ROOT .. ':awake', kind .. ':since', since, kind .. ':last', now, kind .. ':gap_ms', gap_ms)
end

-- Return whether an expired lease means that its worker is dead. During a gap no worker could renew its leases, so
-- after it workers first get the time of a whole lease.
local function leases_count(now)
  local lease_ms = tonumber(redis.call('HGET', ROOT .. ':awake', 'lease_ms') or 0)
  return now - awake_since('worker', now) >= lease_ms
end

-- Return whether somebody reads the job, or it needs no reader. Readers renew the key, which expires a grace period
-- after the last one. While the server or the API was away the key could not be renewed, so a new grace period starts
-- after that.
local function is_read(id, grace_ms, now)
  if not grace_ms or redis.call('EXISTS', job_key(id) .. ':reader') == 1 then return true end
  return now - math.max(awake_since('worker', now), awake_since('api', now)) < tonumber(grace_ms)
end

local function has_reader(id, now) return is_read(id, redis.call('HGET', job_key(id), 'reader_ms'), now) end

local function is_over(id)
  local state = redis.call('HGET', job_key(id), 'state')
  return state ~= 'queued' and state ~= 'running' and state ~= 'paused'
end

-- Handle the loss of the last reader: the job waits after others, and yields if they need the capacity.
local function abandon(id, lane)
  if redis.call('SADD', lane_key(lane, 'unread'), id) == 0 then return end
  redis.call('ZADD', lane_key(lane, 'pending'), 'XX', queue_score(id, lane), id)
  if redis.call('HGET', job_key(id), 'state') ~= 'running' then return end
  if redis.call('ZSCORE', lane_key(lane, 'yielding'), id) then return end  -- it was asked to yield before a reader came
  redis.call('SADD', lane_key(lane, 'abandoned'), id)
end

-- Handle the return of a reader.
local function reclaim(id, lane)
  if redis.call('SREM', lane_key(lane, 'unread'), id) == 0 then return end
  redis.call('ZADD', lane_key(lane, 'pending'), 'XX', queue_score(id, lane), id)
  redis.call('SREM', lane_key(lane, 'abandoned'), id)
end

-- Return whether the current attempt of a job has emitted a token, or written a checkpoint.
local function made_progress(id)
  local first = redis.call('HGET', job_key(id), 'attempt_seq') or 0
  for _, message in ipairs(redis.call('LRANGE', log_key(id), first, -1)) do
    local kind = cjson.decode(message).type
    if kind == 'token' or kind == 'checkpoint' then return true end
  end
  return false
end

-- Return whether `attempt` may write. A job that was claimed again fences off its older attempts.
local function owns(id, attempt)
  local job = redis.call('HMGET', job_key(id), 'state', 'attempt')
  return job[1] == 'running' and job[2] == attempt
end

local function adapter_key(name) return ROOT .. ':adapter:' .. name end

-- Return the newest version of an adapter: its number and its content's id; or nil.
local function newest_version(name)
  for number = tonumber(redis.call('HGET', adapter_key(name), 'last') or 0), 1, -1 do
    local id = redis.call('HGET', adapter_key(name), number)
    if id then return number, id end
  end
end

-- Return what the name of an adapter or of one of its versions stands for; or nil.
local function resolve_adapter(name)
  local adapter, number = string.match(name, '^([^@]+)@([1-9]%d*)$')
  local id
  if adapter then
    id = redis.call('HGET', adapter_key(adapter), number)
  else
    adapter = name
    number, id = newest_version(name)
  end
  if not id then return nil end
  local base = redis.call('HGET', ROOT .. ':adapter_version:' .. id, 'base')
  return base and {base = base, model = adapter .. '@' .. number, adapter_id = id} or nil
end

-- Return what a request's name stands for now ('' is the alias `default`): {base, model (`support@3`, or the base's
-- name), adapter_id ('' for the bare base)}; or nil.
local function resolve_model(name)
  local alias = redis.call('HGET', ROOT .. ':aliases', name == '' and 'default' or name)
  if alias then name = cjson.decode(alias).target end
  if redis.call('HEXISTS', ROOT .. ':bases', name) == 1 then return {base = name, model = name, adapter_id = ''} end
  return resolve_adapter(name)
end

-- Return {name, kind, base, model, adapter_id} for each name that a request can use.
local function known_models()
  local rows = {}
  local function add(names, kind)
    for _, name in ipairs(names) do
      local found = resolve_model(name)
      if found then rows[#rows + 1] = {name, kind, found.base, found.model, found.adapter_id} end
    end
  end
  add(redis.call('HKEYS', ROOT .. ':bases'), 'base')
  add(redis.call('SMEMBERS', ROOT .. ':adapters'), 'adapter')
  add(redis.call('HKEYS', ROOT .. ':aliases'), 'alias')
  return rows
end

-- Return what a name belongs to: 'alias', 'base' or 'adapter'; or nil.
local function kind_of(name)
  if redis.call('HEXISTS', ROOT .. ':aliases', name) == 1 then return 'alias' end
  if redis.call('HEXISTS', ROOT .. ':bases', name) == 1 then return 'base' end
  if redis.call('SISMEMBER', ROOT .. ':adapters', name) == 1 then return 'adapter' end
end

-- Return the alias that points to one of these models (a set of names), and which of them; or nil.
local function alias_of(models)
  local aliases = redis.call('HGETALL', ROOT .. ':aliases')
  for i = 1, #aliases, 2 do
    local target = cjson.decode(aliases[i + 1]).target
    if models[target] then return aliases[i], target end
  end
end

local function job_of(models, jobs)
  for _, id in ipairs(jobs) do
    local model = redis.call('HGET', job_key(id), 'model')
    if model and models[model] then return 'job', id, model end
  end
end

local VALIDATED_S = 600  -- a batch that is still being validated then is stuck

local function open_batch_of(models, name)
  local open = redis.call('ZRANGE', ROOT .. ':batches:open', 0, -1, 'WITHSCORES')
  for i = 1, #open, 2 do
    local batch, is_new = open[i], tonumber(open[i + 1]) > now_ms() / 1000 - VALIDATED_S
    local record = redis.call('HMGET', ROOT .. ':batch:' .. batch, 'status', 'models')
    if record[1] == 'validating' and is_new then return 'batch', batch, name end  -- its lines may name anything
    local named = record[1] ~= 'validating' and cjson.decode(record[2] or '{}') or {}  -- until then all that exist
    for _, model in pairs(named) do
      if models[model] then return 'batch', batch, model end
    end
  end
end

-- Return the open job or batch that needs one of these models (a set of names): 'job' or 'batch', its id, and the
-- model; or nil. `name` stands for the models of a batch that was not read yet.
local function open_user_of(models, name)
  for _, lane in ipairs(redis.call('SMEMBERS', ROOT .. ':lanes')) do
    for _, place in ipairs({'pending', 'dispatched', 'leases'}) do
      local kind, id, model = job_of(models, redis.call('ZRANGE', lane_key(lane, place), 0, -1))
      if kind then return kind, id, model end
    end
  end
  local kind, id, model = job_of(models, redis.call('SMEMBERS', ROOT .. ':jobs:paused'))
  if kind then return kind, id, model end
  return open_batch_of(models, name)
end

-- Store an alias; an empty table would become an object, so an empty history is left out.
local function write_alias(name, alias)
  if alias.history and #alias.history == 0 then alias.history = nil end
  local text = cjson.encode(alias)
  redis.call('HSET', ROOT .. ':aliases', name, text)
  return text
end

-- Tell the workers that names, versions or aliases have changed.
local function announce_adapters() redis.call('PUBLISH', 'slm:control', '{"adapters": true}') end
