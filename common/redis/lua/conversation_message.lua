-- ARGV: id, message, the owner's limit of bytes (may be empty), its JSON as it was read, its new JSON.
-- Changes a message. Returns '', 'bytes' if it would become too large, 'message' if there is none, or 'changed' if
-- somebody else has changed it since it was read.
local id, message, most_bytes, old, new = unpack(ARGV)
local messages = conversation_key(id) .. ':messages'
local present = redis.call('HGET', messages, message)
if not present then return 'message' end
if present == new then return '' end  -- sent twice, or no change
if present ~= old then return 'changed' end
local limit = exceeded(id, 0, #new - #old, '', most_bytes)
if limit ~= '' then return limit end
redis.call('HSET', messages, message, new)
note_conversation(id, #new - #old, now_ms())
return ''
