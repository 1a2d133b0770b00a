"""Identifies the callers of requests and checks what they may do: keys, roles, rate limits."""
