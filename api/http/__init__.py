"""Handles what all routes share: hooks, CORS, limits on bodies, disconnects, concurrency per owner.

Rule of this folder: it knows no route and no job.
"""
