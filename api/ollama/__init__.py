"""The routes under `/api`: Ollama's API, built on the same jobs.

Rule of this folder: it only translates between jobs and Ollama's objects, as `api/openai` does with OpenAI's.
"""
