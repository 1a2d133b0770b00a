-- ARGV: job, owner. Deletes the feedback on a job.
local id, owner = unpack(ARGV)
delist(ROOT .. ':feedback:by_time', id)
forget_feedback(id, owner)
