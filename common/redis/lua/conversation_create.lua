-- ARGV: id, owner, the owner's limits of conversations, of messages in one and of bytes (each may be empty), the number
-- of messages, then message, parent, when it was created (ms; may be empty), JSON, ... of each, then field, value, ...
-- of the record. Creates a conversation; a parent must come before its replies. Returns '' or the limit that it exceeds.
local id, owner, most, most_messages, most_bytes, count = unpack(ARGV, 1, 6)
local key, now, first_field = conversation_key(id), now_ms(), 7 + 4 * count
if redis.call('EXISTS', key) == 1 then return '' end  -- sent twice
local of_owner = redis.call('ZCARD', ROOT .. ':conversations:of:' .. owner)
if most ~= '' and of_owner >= tonumber(most) then return 'conversations' end
local bytes = count * BYTES_PER_MESSAGE
for i = 7, #ARGV do bytes = bytes + #ARGV[i] end
local taken = redis.call('HGET', ROOT .. ':conversations:bytes', owner) or 0
if most_messages ~= '' and tonumber(count) > tonumber(most_messages) then return 'messages' end
if most_bytes ~= '' and taken + bytes > tonumber(most_bytes) then return 'bytes' end

redis.call('HSET', key, 'id', id, 'owner', owner, 'created_ms', now, 'bytes', 0, 'leaf', '')
local size = 0
for i = 7, first_field - 1, 4 do
  add_message(id, ARGV[i], ARGV[i + 1], ARGV[i + 2] == '' and now or ARGV[i + 2], ARGV[i + 3], now)
end
for i = first_field, #ARGV, 2 do
  redis.call('HSET', key, ARGV[i], ARGV[i + 1])
  size = size + #ARGV[i + 1]
end
note_conversation(id, size, now)
return ''
