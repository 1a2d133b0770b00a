-- ARGV: file.  Deletes a file. If open batches still read it, it is only hidden, and deleted when the last of them has
-- ended.
local id = ARGV[1]
local owner = redis.call('HGET', file_key(id), 'owner')
if not owner then return 0 end
delist(ROOT .. ':files:' .. owner, id)
redis.call('HSET', file_key(id), 'is_deleted', 1)
remove_unused(id)
return 1
