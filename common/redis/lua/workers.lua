-- Returns the reports of the live workers; removes dead ones.
local now = now_ms()
for _, worker in ipairs(redis.call('ZRANGEBYSCORE', ROOT .. ':workers', '-inf', '(' .. now)) do
  forget_worker(worker)
end
local reports = {}
for _, worker in ipairs(live_workers(now)) do
  local report = redis.call('GET', ROOT .. ':worker:' .. worker)
  if report then reports[#reports + 1] = report end
end
return reports
