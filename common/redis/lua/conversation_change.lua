-- ARGV: id, the owner's limit of bytes (may be empty), then field, value, ... of the record.
-- Changes a conversation. Returns '', 'bytes' if it would become too large, or what there is not: 'conversation', or
-- 'leaf' for the message to show.
local id, most_bytes = unpack(ARGV, 1, 2)
local key, more = conversation_key(id), 0
if redis.call('EXISTS', key) == 0 then return 'conversation' end
for i = 3, #ARGV, 2 do
  local field, value = ARGV[i], ARGV[i + 1]
  if field == 'leaf' and value ~= '' and not has_message(id, value) then return 'leaf' end
  if field ~= 'leaf' then more = more + #value - redis.call('HSTRLEN', key, field) end
end
local limit = exceeded(id, 0, more, '', most_bytes)
if limit ~= '' then return limit end
redis.call('HSET', key, unpack(ARGV, 3))
note_conversation(id, more, now_ms())
return ''
