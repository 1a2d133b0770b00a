-- ARGV: job, owner. Deletes the feedback on a job.
forget_feedback(ARGV[1], ARGV[2])
