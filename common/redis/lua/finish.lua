-- ARGV: id, attempt, first_seq, state, outcome field (may be empty), outcome (JSON), ttl_s, then type, data, type,
-- data, ...
-- Returns 1 and the wake-up messages to send; -1 if another attempt owns the job; -2 if events are missing.
write_even_when_full()
local id, attempt, first_seq, state, field, outcome, ttl_s = unpack(ARGV, 1, 7)
local job = redis.call('HMGET', job_key(id), 'state', 'attempt', 'lane')
if job[2] == attempt and job[1] == state then return {1, {}} end  -- the command was sent twice
if not owns(id, attempt) then return {-1, {}} end
if redis.call('LLEN', log_key(id)) < tonumber(first_seq) then return {-2, {}} end

local now = now_ms()
if field ~= '' then redis.call('HSET', job_key(id), field, outcome) end
close(id, job[3], state, now)
append_from(id, tonumber(first_seq), 8, #ARGV)
add_bytes(id, 2 * #outcome + BYTES_PER_EVENT * redis.call('LLEN', log_key(id)))  -- twice: the log has the texts, too
expire(id, now, ttl_s)
local usage = cjson.decode(outcome)
settle(id, usage.prompt_tokens or 0, usage.completion_tokens or committed_tokens(id))
return {1, dispatch(job[3], now)}
