-- ARGV: limit, lease_ms, concurrent attempts per owner and per receiver, how many of an owner's due webhooks to
-- examine, then name, count, ... of the running attempts: an owner is 'owner:<o>', a receiver (host and port)
-- 'receiver:<r>'.
-- Leases ended jobs with due webhooks: nobody else gets them for lease_ms. Owners with few attempts come first, and a
-- receiver at its limit does not delay others. Returns id, attempt, owner, receiver, ...
local limit, lease_ms, most_per_owner, most_per_receiver, look_at = unpack(ARGV, 1, 5)
limit = tonumber(limit)
local in_flight = {}
for i = 6, #ARGV, 2 do in_flight[ARGV[i]] = tonumber(ARGV[i + 1]) end
local function count_of(name) return in_flight[name] or 0 end
local now = now_ms()
local leased = {}

local function lease(id, owner, receiver)
  in_flight[owner], in_flight[receiver] = count_of(owner) + 1, count_of(receiver) + 1
  redis.call('ZADD', webhooks_key(id), now + lease_ms, id)
  local attempt = redis.call('HINCRBY', job_key(id), 'webhook_attempts', 1)
  for _, value in ipairs({id, attempt, owner, receiver}) do leased[#leased + 1] = value end
end

local function take_from(name)
  local owner, due = 'owner:' .. name, ROOT .. ':webhooks:due:' .. name
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', due, '-inf', now, 'LIMIT', 0, look_at)) do
    if #leased >= 4 * limit or count_of(owner) >= tonumber(most_per_owner) then return end
    local url = redis.call('HGET', job_key(id), 'webhook_url')
    if url then
      local receiver = 'receiver:' .. string.lower(string.match(url, '//([^/?#]*)') or '')
      if count_of(receiver) < tonumber(most_per_receiver) then lease(id, owner, receiver) end
    else
      redis.call('ZREM', due, id)  -- the job has expired
    end
  end
  if redis.call('EXISTS', due) == 0 then redis.call('SREM', ROOT .. ':webhooks:owners', name) end
end

local owners = redis.call('SMEMBERS', ROOT .. ':webhooks:owners')
table.sort(owners, function(a, b) return count_of('owner:' .. a) < count_of('owner:' .. b) end)
for _, name in ipairs(owners) do take_from(name) end
return leased
