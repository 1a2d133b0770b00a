-- ARGV: what it is (`trainer` or `embedder`), its lane, its id, lease_ms, how many jobs of the lane it runs at once,
-- report (JSON).
-- Counts the process as alive for lease_ms. Its report is not among those of the workers that serve a base model.
write_even_when_full()
local what, lane, id, lease_ms, places, report = unpack(ARGV)
if places == '0' then
  forget_worker(id)
else
  local now = now_ms()
  note_places(id, lane, places, now)
  redis.call('ZADD', ROOT .. ':workers', now + lease_ms, id)
end
redis.call('SET', ROOT .. ':' .. what .. ':' .. id, report, 'PX', lease_ms)
return 1
