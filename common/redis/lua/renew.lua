-- ARGV: lease_ms, then id, attempt, id, attempt, ...  Returns the lost attempts (id, attempt, ...) and the jobs to
-- cancel.
write_even_when_full()
local now = now_ms()
local deadline = now + ARGV[1]
local lost, cancelled = {}, {}
for i = 2, #ARGV, 2 do
  local id = ARGV[i]
  local job = redis.call('HMGET', job_key(id), 'state', 'attempt', 'lane', 'cancel', 'reader_ms')
  if job[1] == 'running' and job[2] == ARGV[i + 1] then
    redis.call('ZADD', lane_key(job[3], 'leases'), deadline, id)
    if job[4] == '1' or not is_read(id, job[5], now) then cancelled[#cancelled + 1] = id end
  else
    lost[#lost + 1] = id
    lost[#lost + 1] = ARGV[i + 1]
  end
end
return {lost, cancelled}
