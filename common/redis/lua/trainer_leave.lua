-- ARGV: trainer.  Removes a trainer that shuts down normally.
forget_worker(ARGV[1])
redis.call('DEL', 'slm:trainer:' .. ARGV[1])
return 1
