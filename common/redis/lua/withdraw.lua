-- ARGV: id, the first message that was added to its conversation with it (may be empty).
-- Deletes a job that was refused after it had been entered, as if it had never been. Returns whether it did, and wake-up
-- messages; a job that a worker has claimed is left as it is.
local id, message = unpack(ARGV)
local job = redis.call('HMGET', job_key(id), 'state', 'lane', 'owner', 'conversation', 'message', 'shown_before')
if not job[1] then return {1, {}} end  -- the command was sent twice
if job[1] ~= 'queued' then return {0, {}} end

leave_lane(id, job[2])
free_reserved(id, job[3])
redis.call('SREM', lane_key(job[2], 'unread'), id)
redis.call('SREM', ROOT .. ':jobs:open:' .. job[3], id)
unlist(id)
if message ~= '' then
  local is_shown = redis.call('HGET', conversation_key(job[4]), 'leaf') == job[5]
  if cut_messages(job[4], message, false) > 0 and is_shown and (job[6] == '' or has_message(job[4], job[6])) then
    redis.call('HSET', conversation_key(job[4]), 'leaf', job[6])
  end
end
redis.call('UNLINK', job_key(id), log_key(id), job_key(id) .. ':reader')
return {1, dispatch(job[2], now_ms())}
