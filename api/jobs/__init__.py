"""Turns requests into jobs, and jobs into responses: queue positions, readers, event streams, JSON bodies.

Rule of this folder: it imports nothing from `api.routes` or `api.openai`.
"""
