"""Jobs as both sides see them: the record, the store in Redis, events and their log, prompts, sampling parameters."""
