-- ARGV: lane.  Dispatches jobs and returns the wake-up messages to send.
return dispatch(ARGV[1], now_ms())
