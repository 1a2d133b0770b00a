"""Webhooks: tells a URL of the client's choice that its job has ended, signed as Standard Webhooks asks.

Rule of this folder: a URL comes from a stranger. Nothing here follows it to an address that was not checked, trusts
what comes back, or waits for it longer than `sender.TIMEOUT_S`.
"""
