-- ARGV: alias.  Returns whether it existed.
local deleted = redis.call('HDEL', ROOT .. ':aliases', ARGV[1])
if deleted == 1 then announce_adapters() end
return deleted
