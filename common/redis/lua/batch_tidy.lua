-- ARGV: batch.  Removes an ended or expired batch from the open ones, and deletes the data that only the driver needed.
local id = ARGV[1]
local batch = redis.call('HMGET', ROOT .. ':batch:' .. id, 'owner', 'input_file_id')
redis.call('ZREM', ROOT .. ':batches:open', id)
for _, part in ipairs({'jobs', 'output', 'errors'}) do redis.call('DEL', ROOT .. ':batch:' .. id .. ':' .. part) end
if batch[1] then
  redis.call('ZREM', ROOT .. ':batches:open:' .. batch[1], id)
  redis.call('SREM', file_key(batch[2]) .. ':batches', id)
  remove_unused(batch[2])
end
return 1
