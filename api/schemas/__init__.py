"""Models of all request and response bodies.

Request bodies are pydantic models, which validate them. Responses are `TypedDict`s: the routes build them, mypy checks
each key and its type, and nothing is converted before it is sent. The reference (`api/reference`) builds the OpenAPI
document from the same models.

Rule of this package: it knows no Flask, no Redis and no service; of the project it imports only `common`.
"""
