"""Sends webhooks: a signed message (Standard Webhooks) to a URL of the client's choice when a job has ended.

Rule of this folder: URLs are untrusted. Nothing here connects to an address that was not checked, trusts the response,
or waits for it longer than `sender.TIMEOUT_S`.
"""
