-- ARGV: id, ...  Returns the time (ms), the lane in which each job will generate ('': it has expired), each job's queue
-- position (0: it does not wait), and lane, {start time (ms), ...}, ... of those lanes, newest first.
local lanes, positions, answer, is_in = {}, {}, {}, {}
for i, id in ipairs(ARGV) do
  local lane = redis.call('HGET', job_key(id), 'lane')
  lanes[i], positions[i] = lane and sibling(lane, 'generate') or '', lane and queue_position(id, lane) or 0
end
for i, lane in ipairs(lanes) do
  if positions[i] > 0 and not is_in[lane] then
    is_in[lane] = true
    answer[#answer + 1] = lane
    answer[#answer + 1] = redis.call('LRANGE', lane_key(lane, 'starts'), 0, -1)
  end
end
return {now_ms(), lanes, positions, unpack(answer)}
