"""Observes every request from its first byte to the last byte of its response: a log line, metrics, a trace."""
