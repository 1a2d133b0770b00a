-- ARGV: name, id of the content, whether it is the content of a folder (0/1), then field, value, ... of the content.
-- Returns 'ok', the version's number, whether it is new (0/1); or the kind of thing that has the name. The number is 0 if
-- the folder has not changed since its version was deleted.
local name, id, is_folder = unpack(ARGV, 1, 3)
local kind = name == 'default' and 'reserved' or kind_of(name)
if kind and kind ~= 'adapter' then return {kind, 0, 0} end

local key, version_key = adapter_key(name), ROOT .. ':adapter_version:' .. id
local number, newest = newest_version(name)
if newest ~= id and is_folder == '1' and redis.call('HGET', key, 'folder') == id then
  for earlier = number or 0, 1, -1 do
    if redis.call('HGET', key, earlier) == id then return {'ok', earlier, 0} end
  end
  return {'ok', 0, 0}
end
if is_folder == '1' then redis.call('HSET', key, 'folder', id) end
if newest == id then return {'ok', number, 0} end

number = redis.call('HINCRBY', key, 'last', 1)
redis.call('HSETNX', version_key, 'created_ms', now_ms())
redis.call('HSET', version_key, unpack(ARGV, 4))
redis.call('HSET', key, number, id)
redis.call('SADD', ROOT .. ':adapters', name)
redis.call('ZREM', ROOT .. ':adapters:deleted', id)
announce_adapters()
return {'ok', number, 1}
