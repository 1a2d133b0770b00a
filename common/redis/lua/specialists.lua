-- ARGV: what they are.  Returns the reports of the live trainers or embedders.
local reports = {}
for _, worker in ipairs(live_workers(now_ms())) do
  local report = redis.call('GET', ROOT .. ':' .. ARGV[1] .. ':' .. worker)
  if report then reports[#reports + 1] = report end
end
return reports
