"""Serves the API reference for programs."""

from __future__ import annotations

from flask import Blueprint, Response, current_app

from api.auth.access import Access, set_access
from api.reference.document import build

reference = Blueprint("reference", __name__)
set_access(reference, Access.PUBLIC)

_EXTENSION = "slm_reference"  # the document's key in `app.extensions`


@reference.get("/openapi.json")
def document() -> Response:
    """Return the OpenAPI document, which is built at the first request."""
    written = current_app.extensions
    if _EXTENSION not in written:
        written[_EXTENSION] = current_app.json.dumps(build(current_app))
    return Response(written[_EXTENSION], mimetype="application/json")
