"""The routes under `/v1`: an API for OpenAI's clients, built on the same jobs.

Rule of this folder: it only translates between jobs and OpenAI's objects. Fields that are not supported are rejected
by name, never ignored.
"""
