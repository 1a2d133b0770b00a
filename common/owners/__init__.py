"""Stores the API keys, files and batches of owners in Redis."""
