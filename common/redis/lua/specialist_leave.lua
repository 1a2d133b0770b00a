-- ARGV: what it is, its id.  Removes a trainer or an embedder that shuts down normally.
forget_worker(ARGV[2])
redis.call('DEL', ROOT .. ':' .. ARGV[1] .. ':' .. ARGV[2])
return 1
