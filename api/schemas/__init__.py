"""What clients send and what the server answers, field by field: one model for each.

Request bodies are pydantic models, which check them. Responses are `TypedDict`s: the routes build them, mypy proves
each key and its type, and nothing has to be converted on the way to the wire. The reference (`api/reference`) writes
the OpenAPI document from the same models.

Rule of this package: it knows no Flask, no Redis and no service; of the project it imports only `common`.
"""
