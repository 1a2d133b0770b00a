-- Dispatches the jobs that are next in every lane, and returns the wake-up messages to send.
return dispatch_all(redis.call('SMEMBERS', ROOT .. ':lanes'), now_ms())
