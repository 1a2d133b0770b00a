-- ARGV: job, owner, bytes, the owner's limit of bytes (may be empty), ttl_s, then field, value, ... of the feedback.
-- Replaces the job's feedback, but keeps the time of its first. Returns the times of the first and of this, in ms; or
-- nothing if the owner's feedback would be too large.
local id, owner, bytes, most_bytes, ttl_s = unpack(ARGV, 1, 5)
local now = now_ms()
local record, of_owner = ROOT .. ':feedback:job:' .. id, ROOT .. ':feedback:of:' .. owner
local expired = now - ttl_s * 1000
for _, old in ipairs(redis.call('ZRANGEBYSCORE', of_owner, '-inf', expired)) do forget_feedback(old, owner) end
redis.call('ZREMRANGEBYSCORE', ROOT .. ':feedback:by_time', '-inf', expired)

local sizes_key = ROOT .. ':feedback:bytes:' .. owner
local more = bytes - (redis.call('HGET', sizes_key, id) or 0)
local total = (redis.call('HGET', sizes_key, '') or 0) + more
if most_bytes ~= '' and total > tonumber(most_bytes) then return {} end

local first = redis.call('HGET', record, 'created_ms') or now
redis.call('DEL', record)
redis.call('HSET', record, 'job_id', id, 'owner', owner, 'created_ms', first, 'updated_ms', now, unpack(ARGV, 6))
redis.call('EXPIRE', record, ttl_s)
redis.call('ZADD', of_owner, now, id)
redis.call('ZADD', ROOT .. ':feedback:by_time', now, id)
redis.call('HSET', sizes_key, id, bytes, '', total)
return {tonumber(first), now}
