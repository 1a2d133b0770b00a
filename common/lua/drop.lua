-- ARGV: id, ttl_s.  Takes a job out of quarantine. Returns whether it was in it.
return drop(ARGV[1], now_ms(), ARGV[2]) and 1 or 0
