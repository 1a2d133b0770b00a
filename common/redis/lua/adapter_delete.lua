-- ARGV: name, number ('' for all versions).
-- Returns 'ok', number, ... of the deleted versions; 'unknown'; or what needs a version ('alias', 'job' or 'batch'), the
-- version and the name or id of what needs it.
local KEEP_MS = 30 * DAY_MS  -- how long the workers of all hosts have to delete the files
write_even_when_full()
local name, only = unpack(ARGV)
local key = adapter_key(name)
local ids, versions, numbers = {}, {}, {}
local fields = redis.call('HGETALL', key)
for i = 1, #fields, 2 do
  local number = tonumber(fields[i])
  if number and (only == '' or number == tonumber(only)) then
    ids[fields[i + 1]], versions[name .. '@' .. fields[i]], numbers[#numbers + 1] = true, true, fields[i]
  end
end
if #numbers == 0 then return {'unknown'} end

local pointing, needed = alias_of(versions)
if pointing then return {'alias', needed, pointing} end
local kind, user, version = open_user_of(versions, name)
if kind then return {kind, version, user} end

redis.call('HDEL', key, unpack(numbers))
if not newest_version(name) then redis.call('SREM', ROOT .. ':adapters', name) end
local aliases = redis.call('HGETALL', ROOT .. ':aliases')
for i = 1, #aliases, 2 do  -- a roll-back must not return to a deleted version
  local alias, left = cjson.decode(aliases[i + 1]), {}
  for _, target in ipairs(alias.history or {}) do
    if not versions[target] then left[#left + 1] = target end
  end
  alias.history = left
  write_alias(aliases[i], alias)
end
local now = now_ms()
redis.call('ZREMRANGEBYSCORE', ROOT .. ':adapters:deleted', '-inf', now - KEEP_MS)
for _, other in ipairs(redis.call('SMEMBERS', ROOT .. ':adapters')) do
  local held = redis.call('HGETALL', adapter_key(other))
  for i = 1, #held, 2 do if tonumber(held[i]) then ids[held[i + 1]] = nil end end
end
for id in pairs(ids) do
  redis.call('DEL', ROOT .. ':adapter_version:' .. id)
  redis.call('ZADD', ROOT .. ':adapters:deleted', now, id)
end
announce_adapters()
return {'ok', unpack(numbers)}
