"""Other people's clients in the environments that they need, against the API as it runs in production.

LangChain and LiteLLM need other versions of packages that the server uses, and frameworks for agents need others again.
So they have two environments: `requirements.txt` and `agents/requirements.txt`, each installed at the first test that
needs it.
"""
