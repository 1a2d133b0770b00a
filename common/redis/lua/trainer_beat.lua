-- ARGV: trainer, lease_ms, how many jobs of the lane `train` it runs at once, report (JSON).
-- Counts the trainer as alive for lease_ms. Its report is not among those of the workers that serve a model.
write_even_when_full()
local trainer, lease_ms, places, report = unpack(ARGV)
if places == '0' then
  forget_worker(trainer)
else
  redis.call('ZADD', 'slm:workers', now_ms() + lease_ms, trainer)
  redis.call('SADD', 'slm:lanes', 'train')
  redis.call('HSET', lane_key('train', 'places'), trainer, places)
end
redis.call('SET', 'slm:trainer:' .. trainer, report, 'PX', lease_ms)
return 1
