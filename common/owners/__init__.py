"""What belongs to an owner in Redis: API keys, files, batches."""
