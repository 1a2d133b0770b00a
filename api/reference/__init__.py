"""The reference: what every route takes and answers, as one OpenAPI 3.1 document (`GET /openapi.json`, `GET /docs`).

Rule of this folder: it describes and never serves. Bodies are described by the models that check them
(`api/schemas`, `api/openai`); whoever adds a route adds its `Operation` to one of the `*_operations` files.
"""
