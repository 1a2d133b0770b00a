-- ARGV: owner, file, bytes, the owner's limits of files and of bytes (either may be empty), ttl_s, then field, value,
-- ... of the file's record; without a record, only the limits are checked.  Returns '' if the file is (or could be)
-- stored; otherwise the limit that it exceeds, and deletes the content that was written for it.
local owner, id, bytes, most_files, most_bytes, ttl_s = unpack(ARGV, 1, 6)
local sizes_key = ROOT .. ':files:bytes:' .. owner
local num_files, num_bytes = 1, tonumber(bytes)
local sizes = redis.call('HGETALL', sizes_key)
for i = 1, #sizes, 2 do
  if redis.call('EXISTS', file_key(sizes[i])) == 0 then
    redis.call('HDEL', sizes_key, sizes[i])  -- the file has expired
  elseif sizes[i] ~= id then
    num_files, num_bytes = num_files + 1, num_bytes + sizes[i + 1]
  end
end

local refusal = ''
if most_files ~= '' and num_files > tonumber(most_files) then refusal = 'files' end
if most_bytes ~= '' and num_bytes > tonumber(most_bytes) then refusal = 'file_bytes' end
if #ARGV == 6 then return refusal end
if refusal ~= '' then
  redis.call('DEL', file_key(id) .. ':lines')
  return refusal
end
redis.call('DEL', file_key(id))
redis.call('HSET', file_key(id), unpack(ARGV, 7))
redis.call('EXPIRE', file_key(id), ttl_s)
redis.call('ZADD', ROOT .. ':files:' .. owner, math.floor(now_ms() / 1000), id)
redis.call('HSET', sizes_key, id, bytes)
return ''
