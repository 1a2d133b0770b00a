"""Clients that nobody here wrote, in the environments that they want, against the API as it runs in production.

LangChain and LiteLLM want other versions of what the server is tested with, so they have an environment of their own:
`requirements.txt`, installed at the first test that needs it.
"""
