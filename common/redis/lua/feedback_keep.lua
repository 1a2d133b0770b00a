-- ARGV: job, owner, bytes, the owner's limit of bytes (may be empty), ttl_s, then field, value, ... of the feedback.
-- Replaces the job's feedback, but keeps the time of its first. Returns the times of the first and of this, in ms; or
-- nothing if the owner's feedback would be too large.
local id, owner, bytes, most_bytes, ttl_s = unpack(ARGV, 1, 5)
local now = now_ms()
local sizes_key, of_owner = 'slm:feedback:bytes:' .. owner, 'slm:feedback:of:' .. owner
local expired = now - ttl_s * 1000
for _, old in ipairs(redis.call('ZRANGEBYSCORE', of_owner, '-inf', expired)) do redis.call('HDEL', sizes_key, old) end
redis.call('ZREMRANGEBYSCORE', of_owner, '-inf', expired)
redis.call('ZREMRANGEBYSCORE', 'slm:feedback:by_time', '-inf', expired)

local num_bytes = tonumber(bytes)
local sizes = redis.call('HGETALL', sizes_key)
for i = 1, #sizes, 2 do
  if sizes[i] ~= id then num_bytes = num_bytes + sizes[i + 1] end
end
if most_bytes ~= '' and num_bytes > tonumber(most_bytes) then return {} end

local record = 'slm:feedback:job:' .. id
local first = redis.call('HGET', record, 'created_ms') or now
redis.call('DEL', record)
redis.call('HSET', record, 'job_id', id, 'owner', owner, 'created_ms', first, 'updated_ms', now, unpack(ARGV, 6))
redis.call('EXPIRE', record, ttl_s)
redis.call('ZADD', of_owner, now, id)
redis.call('ZADD', 'slm:feedback:by_time', now, id)
redis.call('HSET', sizes_key, id, bytes)
redis.call('EXPIRE', of_owner, ttl_s)
redis.call('EXPIRE', sizes_key, ttl_s)
return {tonumber(first), now}
