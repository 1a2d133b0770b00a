-- ARGV: id, ttl_s.  Removes a job from the dead letters. Returns whether it was there.
return drop(ARGV[1], now_ms(), ARGV[2]) and 1 or 0
