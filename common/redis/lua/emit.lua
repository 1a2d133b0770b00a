-- ARGV: for each job: id, attempt, first_seq, number of events, then type, data, type, data, ...
-- Returns for each job the next seq; -1 if another attempt owns the job; -2 if events before first_seq are missing.
local answers, i = {}, 1
while i <= #ARGV do
  local id, attempt, first_seq, count = unpack(ARGV, i, i + 3)
  local last = i + 3 + 2 * count
  answers[#answers + 1] = owns(id, attempt) and (append_from(id, tonumber(first_seq), i + 4, last) or -2) or -1
  i = last + 1
end
return answers
