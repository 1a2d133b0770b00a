-- ARGV: ttl_ms, how many at most.  Deletes conversations that have not changed for that long; returns how many.
local expired = redis.call('ZRANGEBYSCORE', 'slm:conversations:by_time', '-inf', now_ms() - ARGV[1], 'LIMIT', 0, ARGV[2])
for _, id in ipairs(expired) do forget_conversation(id) end
return #expired
