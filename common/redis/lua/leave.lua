-- ARGV: worker.  Removes a worker that shuts down normally.
forget_worker(ARGV[1])
redis.call('DEL', ROOT .. ':worker:' .. ARGV[1])
return 1
