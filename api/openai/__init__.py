"""The routes under `/v1`: an API for OpenAI's clients, built on the same jobs.

Rule of this folder: it only translates between jobs and OpenAI's objects. Fields that are not supported are rejected
by name; those without an effect on the answer are accepted and named in a header (`api/schemas/ignored.py`).
"""
