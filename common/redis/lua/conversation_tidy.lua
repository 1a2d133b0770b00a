-- ARGV: ttl_ms, how many at most.  Deletes conversations that have not changed for that long; returns how many.
local by_time, oldest_kept = ROOT .. ':conversations:by_time', now_ms() - ARGV[1]
local expired = redis.call('ZRANGEBYSCORE', by_time, '-inf', oldest_kept, 'LIMIT', 0, ARGV[2])
for _, id in ipairs(expired) do forget_conversation(id) end
return #expired
