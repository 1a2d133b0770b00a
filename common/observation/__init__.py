"""Logs and their context, traces, and the metrics store."""
