-- ARGV: id, attempt, first_seq, then type, data, type, data, ...
-- Returns the next seq; -1 if another attempt owns the job; -2 if events before first_seq are missing.
local id, attempt, first_seq = unpack(ARGV, 1, 3)
if not owns(id, attempt) then return -1 end
if not append_from(id, tonumber(first_seq), 4) then return -2 end
return redis.call('LLEN', log_key(id))
