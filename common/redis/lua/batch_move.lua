-- ARGV: id, new status, then the allowed current statuses.  Returns 1 and records the time if the status was one of
-- these.
local id, status = ARGV[1], ARGV[2]
local key = ROOT .. ':batch:' .. id
local present = redis.call('HGET', key, 'status')
for i = 3, #ARGV do
  if present == ARGV[i] then
    redis.call('HSET', key, 'status', status, status .. '_at', math.floor(now_ms() / 1000))
    return 1
  end
end
return 0
