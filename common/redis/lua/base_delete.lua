-- ARGV: name of a base model.
-- Returns 'ok'; 'unknown'; or what needs the base model ('alias', 'adapter', 'job' or 'batch') and its name or id.
write_even_when_full()
local name = ARGV[1]
if redis.call('HEXISTS', ROOT .. ':bases', name) == 0 then return {'unknown'} end
local alias = alias_of({[name] = true})
if alias then return {'alias', alias} end
for _, adapter in ipairs(redis.call('SMEMBERS', ROOT .. ':adapters')) do
  local held = redis.call('HGETALL', adapter_key(adapter))
  for i = 1, #held, 2 do
    local is_version = tonumber(held[i])
    if is_version and redis.call('HGET', ROOT .. ':adapter_version:' .. held[i + 1], 'base') == name then
      return {'adapter', adapter}
    end
  end
end
local kind, user = open_user_of({[name] = true}, name)
if kind then return {kind, user} end
redis.call('HDEL', ROOT .. ':bases', name)
redis.call('HDEL', ROOT .. ':bases:created', name)
announce_adapters()
return {'ok'}
