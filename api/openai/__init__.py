"""The routes under `/v1`: the service's jobs under the face that OpenAI's clients know.

Rule of this folder: it gives other names and shapes to what the jobs are. What a client asks for and is not done here
is refused by its name, never passed over.
"""
