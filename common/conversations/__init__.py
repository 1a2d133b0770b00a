"""Keeps conversations in Redis: trees of messages, some of which jobs write."""
