-- ARGV: file.  Drops a file; nobody finds it any more. What a batch still reads goes when the last such batch has ended.
local id = ARGV[1]
local owner = redis.call('HGET', file_key(id), 'owner')
if not owner then return 0 end
redis.call('ZREM', 'slm:files:' .. owner, id)
redis.call('HSET', file_key(id), 'is_deleted', 1)
remove_unused(id)
return 1
