-- ARGV: id, new status, then the statuses that it may come from.  Returns 1 where it was in one of them, and notes the time.
local id, status = ARGV[1], ARGV[2]
local key = 'slm:batch:' .. id
local present = redis.call('HGET', key, 'status')
for i = 3, #ARGV do
  if present == ARGV[i] then
    redis.call('HSET', key, 'status', status, status .. '_at', math.floor(now_ms() / 1000))
    return 1
  end
end
return 0
