-- ARGV: lane.  Returns the bells to ring.
return ring(ARGV[1], now_ms())
