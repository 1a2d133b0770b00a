-- ARGV: lease_ms, then id, attempt, id, attempt, ...  Returns the lost attempts (id, attempt, ...) and the jobs to
-- cancel.
write_even_when_full()
local now = now_ms()
local deadline = now + ARGV[1]
local lost, cancelled = {}, {}
for i = 2, #ARGV, 2 do
  local id = ARGV[i]
  if owns(id, ARGV[i + 1]) then
    local job = redis.call('HMGET', job_key(id), 'lane', 'cancel')
    redis.call('ZADD', lane_key(job[1], 'leases'), deadline, id)
    if job[2] == '1' or not has_reader(id, now) then cancelled[#cancelled + 1] = id end
  else
    lost[#lost + 1] = id
    lost[#lost + 1] = ARGV[i + 1]
  end
end
return {lost, cancelled}
