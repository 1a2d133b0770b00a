-- ARGV: id.  Deletes a conversation.
forget_conversation(ARGV[1])
