-- ARGV: batch, owner, file, ttl_s, window_s, the owner's limit of open batches (may be empty), then field, value, ...
-- of the record.
-- Creates a batch, which reads the lines of the file itself: the file is kept for at least window_s. The record gets
-- `models`, what every name stands for now, because the lines are read later. Returns '', or the reason for a refusal:
-- 'file' or 'open_batches'.
local id, owner, file, ttl_s, window_s, most_open = unpack(ARGV, 1, 6)
local now_s = math.floor(now_ms() / 1000)
local open = ROOT .. ':batches:open:' .. owner
local record = redis.call('HMGET', file_key(file), 'owner', 'is_deleted')
if not record[1] or record[2] then return 'file' end
redis.call('ZREMRANGEBYSCORE', open, '-inf', now_s)
if most_open ~= '' and redis.call('ZCARD', open) >= tonumber(most_open) then return 'open_batches' end

redis.call('SADD', file_key(file) .. ':batches', id)
for _, key in ipairs({file_key(file), file_key(file) .. ':lines', file_key(file) .. ':batches'}) do
  local left_s = redis.call('TTL', key)
  if left_s < tonumber(window_s) then redis.call('EXPIRE', key, window_s) end
end
local models = {}
for _, row in ipairs(known_models()) do models[row[1]] = row[4] end
redis.call('HSET', ROOT .. ':batch:' .. id, 'models', cjson.encode(models), unpack(ARGV, 7))
redis.call('EXPIRE', ROOT .. ':batch:' .. id, ttl_s)
redis.call('ZADD', ROOT .. ':batches:' .. owner, now_s, id)
redis.call('ZADD', ROOT .. ':batches:open', now_s, id)
redis.call('ZADD', open, now_s + ttl_s, id)
return ''
