-- ARGV: id, message, whether its replies are kept (0/1). Deletes a message, and all after it unless they are kept: then
-- they follow its parent. Returns how many messages were deleted.
local id, message, keeps_replies = unpack(ARGV)
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
    if keeps_replies == '0' then
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
note_conversation(id, -freed, now_ms())
return #gone
