"""Other people's clients in the environments that they need, against the API as it runs in production.

LangChain and LiteLLM need other versions of packages that the server uses, so they have their own environment:
`requirements.txt`, installed at the first test that needs it.
"""
