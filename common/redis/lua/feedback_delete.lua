-- ARGV: job, owner. Deletes the feedback on a job; its place among the others is kept, for who is reading them page by page.
local PLACES, PLACES_S = 10000, 3600
local id, owner = unpack(ARGV)
local deleted, time = ROOT .. ':feedback:deleted', redis.call('ZSCORE', ROOT .. ':feedback:by_time', id)
forget_feedback(id, owner)
if not time then return end
redis.call('ZADD', deleted, time, id)
redis.call('ZREMRANGEBYRANK', deleted, 0, 0 - PLACES - 1)
redis.call('EXPIRE', deleted, PLACES_S)
