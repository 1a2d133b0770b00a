-- ARGV: lane.  Dispatches jobs and returns the wake-up messages to send.
return ring(ARGV[1], now_ms())
