-- ARGV: grace_ms, then id, whether somebody reads it (0/1), ...
-- A job that nobody reads any more is kept for grace_ms and makes room for others meanwhile.
-- Returns the wake-up messages to send.
write_even_when_full()
local lanes, is_in = {}, {}
for i = 2, #ARGV, 2 do
  local id = ARGV[i]
  local job = redis.call('HMGET', job_key(id), 'lane', 'reader_ms')
  if job[2] and not is_over(id) then
    redis.call('SET', job_key(id) .. ':reader', 1, 'PX', ARGV[1])
    if ARGV[i + 1] == '1' then reclaim(id, job[1]) else abandon(id, job[1]) end
    if not is_in[job[1]] then lanes[#lanes + 1], is_in[job[1]] = job[1], true end
  end
end
return dispatch_all(lanes, now_ms())
