-- ARGV: id.  Deletes the record and the events of a job that has ended. Returns 0 if it has not, or if its webhook or an
-- operator still needs it.
local id = ARGV[1]
if not redis.call('ZSCORE', ROOT .. ':jobs:expiry', id) then return 0 end
redis.call('UNLINK', job_key(id), log_key(id))
unlist(id)
return 1
