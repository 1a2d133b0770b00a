-- ARGV: id, changes (JSON object).  Changes values of a succeeded job's result; returns whether there is such a job.
local id, changes = unpack(ARGV)
local job = redis.call('HMGET', job_key(id), 'state', 'result')
if job[1] ~= 'succeeded' or not job[2] then return 0 end
local fields = string.match(changes, '^{(.*)}$')
-- The new values come last, so that they count: a decoded and encoded result would lose the type of empty lists.
redis.call('HSET', job_key(id), 'result', string.match(job[2], '^(.*)}$') .. ', ' .. fields .. '}')
return 1
