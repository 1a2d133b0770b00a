-- ARGV: id, kind, what it needs (job.py: Lane), preparation (preparation.py), owner, params (JSON), cost (tokens),
-- max_queue, delay (tokens), ttl_s, the owner's limits of open jobs, tokens per day and stored bytes, the dead letter
-- that this job repeats (each of these four may be empty), whether the owner must have an API key (0/1), then field,
-- value, ... of the optional fields (store.py: JobOptions). The field `model` is the name that the client requested; the
-- record gets what it stands for now.
-- Returns status, the job's id, position (seconds to wait if too few tokens are left), wake-up messages; then of an
-- accepted job its lane and model, of a job that finds a full queue its lane, of one whose base has no worker although
-- others have the base, and if too few tokens are left: the most the job may need, how many are left today, and how many
-- of those are reserved for other jobs.
local RESERVED_RETRY_S = 2  -- it is unknown which of the owner's jobs ends first, and when
local id, kind, need, preparation, owner, params, cost, max_queue, delay, ttl_s = unpack(ARGV, 1, 10)
local most_jobs, most_tokens, most_bytes, retried, needs_key = unpack(ARGV, 11, 15)
local option = {}
for i = 16, #ARGV, 2 do option[ARGV[i]] = ARGV[i + 1] end
local now = now_ms()

-- Return whether a job is still writing the message.
local function is_being_answered(conversation, message)
  local answer = cjson.decode(redis.call('HGET', conversation_key(conversation) .. ':answers', message) or '{}')
  return answer.job_id and not answer.state and redis.call('EXISTS', job_key(answer.job_id)) == 1
end

-- Return why a job of the owner cannot write a message at that place of a conversation; '' if it can.
local function obstacle_to_answer(conversation, place)
  if redis.call('HGET', conversation_key(conversation), 'owner') ~= owner then return 'no_conversation' end
  if place.parent ~= '' and not has_message(conversation, place.parent) then return 'no_parent' end
  if #place.given > 0 and is_being_answered(conversation, place.parent) then return 'unfinished_parent' end
  local bytes = BYTES_PER_MESSAGE
  for _, message in ipairs(place.given) do bytes = bytes + #message[2] + BYTES_PER_MESSAGE end
  local limit = exceeded(conversation, 1 + #place.given, bytes, place.most_messages, place.most_bytes)
  return limit == '' and '' or 'conversation_' .. limit
end

-- Return the answer for a job that is there already. It is written to, so that WAIT waits for its replicas.
local function found(status, known)
  write_even_when_full()
  redis.call('HSET', job_key(known), 'id', known)
  local job = redis.call('HMGET', job_key(known), 'lane', 'model')
  return {status, known, queue_position(known, job[1]), {}, job[1], job[2] or ''}
end

if redis.call('EXISTS', job_key(id)) == 1 then return found('ok', id) end  -- sent twice
if needs_key == '1' and redis.call('HEXISTS', ROOT .. ':api_keys', owner) == 0 then return {'no_key', id, 0, {}} end
if option.idempotency then
  local first = redis.call('HMGET', key_of(option.idempotency), 'id', 'fingerprint')
  if first[1] and redis.call('EXISTS', job_key(first[1])) == 1 then
    if first[2] ~= option.fingerprint then return {'mismatch', first[1], 0, {}} end
    return found('repeated', first[1])
  end
end
if retried ~= '' and not redis.call('ZSCORE', ROOT .. ':jobs:dead_letters', retried) then
  return {'not_quarantined', id, 0, {}}
end
local model = need ~= 'embed' and option.model and resolve_model(option.model)  -- an encoder has only its own name
if model then
  for field, value in pairs(model) do option[field] = value end
elseif need ~= 'embed' and option.model and option.model ~= '' then  -- a job without a name is resolved when it is claimed
  return {redis.call('EXISTS', ROOT .. ':bases') == 1 and 'no_model' or 'no_worker', id, 0, {}, ''}
end
local place = option.place and cjson.decode(option.place)
option.place = nil
if place then
  local obstacle = obstacle_to_answer(option.conversation, place)
  if obstacle ~= '' then return {obstacle, id, 0, {}} end
elseif option.conversation and not has_message(option.conversation, option.message) then
  option.conversation, option.message = nil, nil  -- the message of a dead letter was deleted meanwhile
end
local prepared = key_of(preparation) .. (option.adapter_id or '')
local needs_preparation = preparation ~= '' and redis.call('EXISTS', prepared) == 0
if needs_preparation then need = 'prepare' end
if most_jobs ~= '' and redis.call('SCARD', ROOT .. ':jobs:open:' .. owner) >= tonumber(most_jobs) then
  return {'too_many_jobs', id, 0, {}}
end
if most_tokens ~= '' then
  local left = most_tokens - (redis.call('GET', tokens_key(owner, now)) or 0)
  local reserved = tonumber(redis.call('GET', reserved_key(owner)) or 0)
  if cost + reserved > left then
    local seconds = tonumber(cost) > left and math.ceil((DAY_MS - now % DAY_MS) / 1000) or RESERVED_RETRY_S
    return {'too_few_tokens', id, seconds, {}, tonumber(cost), left, reserved}
  end
end
if most_bytes ~= '' and not make_room(owner, most_bytes - #params) then return {'too_many_bytes', id, 0, {}} end
local arrival = redis.call('INCR', ROOT .. ':jobs:order')  -- the first write: a full Redis refuses here, before any change
-- A job whose base is not known yet waits in the common lane until a worker of the default base adopts it.
local lane = option.base and lane_of_base(need, option.base, now) or need
if not is_served((option.base or OF_BASES[need] == nil) and lane or 'control', now) then
  local _, its_base = parts_of(lane)
  return {'no_worker', id, 0, {}, is_served('control', now) and its_base or ''}
end
local flow = flow_name(owner, option.bulk)
if not has_room(lane, flow, tonumber(max_queue)) then return {'queue_full', id, 0, {}, lane} end

-- The preparation is attempt 0.
redis.call('HSET', job_key(id), 'id', id, 'kind', kind, 'lane', lane, 'owner', owner, 'params', params,
  'state', 'queued', 'attempt', needs_preparation and -1 or 0, 'crashes', 0, 'arrival', arrival, 'cost', cost,
  'created_ms', now)
assign_order(id, lane, flow, delay)
reserve(id, owner, cost)
for field, value in pairs(option) do redis.call('HSET', job_key(id), field, value) end
if option.ttl_ms then redis.call('HSET', job_key(id), 'expires_ms', now + option.ttl_ms) end
if option.reader_ms then redis.call('SET', job_key(id) .. ':reader', 1, 'PX', option.reader_ms) end
if option.idempotency then
  redis.call('HSET', key_of(option.idempotency), 'id', id, 'fingerprint', option.fingerprint)
end
list(id, owner, now)
if place then
  option.message = 'msg_' .. id
  redis.call('HSET', job_key(id), 'shown_before', redis.call('HGET', conversation_key(option.conversation), 'leaf') or '')
  local parent = place.parent
  for _, message in ipairs(place.given) do
    add_message(option.conversation, message[1], parent, now, message[2], now)
    parent = message[1]
  end
  add_message(option.conversation, option.message, parent, now, '{"role": "assistant", "content": ""}', now)
end
if option.message then begin_answer(id, option.conversation, option.message, now) end
if kind == 'train' then redis.call('ZADD', ROOT .. ':training:' .. owner, now, id) end
add_bytes(id, #params)
if retried ~= '' then drop(retried, now, ttl_s) end
enqueue(id, lane)
local wake_ups = dispatch(lane, now)
local position = queue_position(id, lane)
if position > 0 then append(id, 'queued', '{"position": ' .. position .. '}') end
return {'ok', id, position, wake_ups, lane, option.model or ''}
