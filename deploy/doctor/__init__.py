"""Looks at a machine before, while or after a server runs on it: what is wrong, and what to change.

Nothing is changed, and nothing is started. Each module has the checks of one kind and returns findings.
"""
