-- ARGV: base ('': the only one), keep_alive_ms.  Called with every heartbeat of its workers. Unloads a model that no job
-- has needed for that long; returns whether it did.
write_even_when_full()
local base, keep_alive_ms = unpack(ARGV)
local now = now_ms()
if redis.call('HGET', model_key(base), 'loaded') == '0' then return 0 end
local latest = 0
for _, need in ipairs({'generate', 'prepare'}) do
  local lane = lane_name(need, base)
  for _, what in ipairs({'pending', 'dispatched', 'leases'}) do
    if redis.call('ZCARD', lane_key(lane, what)) > 0 then
      redis.call('HDEL', model_key(base), 'idle_ms')
      return 0
    end
  end
  latest = math.max(latest, tonumber(redis.call('LINDEX', lane_key(lane, 'starts'), 0) or 0))  -- between two heartbeats
end
redis.call('HSETNX', model_key(base), 'idle_ms', now)
local idle_since = math.max(latest, tonumber(redis.call('HGET', model_key(base), 'idle_ms')))
if now - idle_since < tonumber(keep_alive_ms) then return 0 end
desire(base, '0')
return 1
