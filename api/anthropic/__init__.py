"""The routes under `/v1/messages`: Anthropic's API, built on the same jobs.

Rule of this folder: it only translates between jobs and Anthropic's objects, as `api/openai` does with OpenAI's.
"""
