-- ARGV: id, the limits of messages and of the owner's bytes (either may be empty), then message, parent ('': none; '@':
-- the message that is shown last), JSON, job (may be empty) of each message.
-- Appends messages and shows the last of them. A job writes its message, or has written it. Returns '', the limit that
-- they exceed, or what there is not: 'conversation', 'parent' or 'job'; 'job_used' if the job writes another message.
local id, most_messages, most_bytes = unpack(ARGV, 1, 3)
local key, now, bytes, given = conversation_key(id), now_ms(), 0, {}
local owner = redis.call('HGET', key, 'owner')
if not owner then return 'conversation' end
if has_message(id, ARGV[4]) then return '' end  -- sent twice

local function obstacle_of(job, message)
  local known = redis.call('HMGET', job_key(job), 'owner', 'kind', 'message')
  if known[1] ~= owner or (known[2] ~= 'generate' and known[2] ~= 'stream') then return 'job' end
  return known[3] and known[3] ~= message and 'job_used' or ''
end

for i = 4, #ARGV, 4 do
  local message, parent, text, job = unpack(ARGV, i, i + 3)
  if parent ~= '' and parent ~= '@' and not given[parent] and not has_message(id, parent) then return 'parent' end
  local obstacle = job == '' and '' or obstacle_of(job, message)
  if obstacle ~= '' then return obstacle end
  given[message], bytes = true, bytes + #text + BYTES_PER_MESSAGE
end
local limit = exceeded(id, (#ARGV - 3) / 4, bytes, most_messages, most_bytes)
if limit ~= '' then return limit end

for i = 4, #ARGV, 4 do
  local message, parent, text, job = unpack(ARGV, i, i + 3)
  if parent == '@' then parent = redis.call('HGET', key, 'leaf') end
  add_message(id, message, parent, now, text, now)
  if job ~= '' then
    begin_answer(job, id, message, now)
    if is_over(job) then keep_answer(job) end
  end
end
return ''
