"""Jobs as the API's clients see them: from a request to a job, its queue position, its events as frames.

Rule of this folder: nothing from `api.routes` or `api.openai`.
"""
