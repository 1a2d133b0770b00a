"""Builds the reference of all routes: an OpenAPI 3.1 document (`GET /openapi.json`, `GET /docs`).

Rule of this folder: it only describes. Bodies are described by the models that validate them (`api/schemas`,
`api/openai`). Every new route needs an `Operation` in one of the `*_operations` files.
"""
