"""OpenAI's conversations: a translation of those under `/slm`. Their items are the messages that are shown."""
