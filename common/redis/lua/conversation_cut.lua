-- ARGV: id, message, whether its replies are kept (0/1). Deletes a message, and all after it unless they are kept: then
-- they follow its parent. Returns how many messages were deleted.
return cut_messages(ARGV[1], ARGV[2], ARGV[3] == '1')
