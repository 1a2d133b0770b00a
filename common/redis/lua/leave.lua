-- ARGV: worker.  Removes a worker that shuts down normally.
redis.call('ZREM', 'slm:workers', ARGV[1])
redis.call('HDEL', 'slm:workers:slots', ARGV[1])
redis.call('DEL', 'slm:worker:' .. ARGV[1])
return 1
