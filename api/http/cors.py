"""Lets pages of the origins that the settings name call the API from a browser. No others, and never with cookies."""

from __future__ import annotations

from flask import Flask, Response, request

METHODS = "GET, HEAD, POST, DELETE"
EXPOSED = (
    "Location, X-Request-Id, X-Job-Id, Idempotency-Replayed, Retry-After, Last-Event-ID, "
    "X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset"
)
PREFLIGHT_S = 600  # how long a browser remembers what it was allowed


def register_cors(app: Flask, origins: frozenset[str]) -> None:
    """Answer those origins' pages; `*` stands for every origin. Without origins nothing is added.

    Browsers say `null` for a page out of a file, but also for a frame that any site has put in a sandbox.
    """
    if not origins:
        return

    def add_headers(response: Response) -> Response:
        response.vary.add("Origin")
        origin = request.headers.get("Origin")
        if origin is not None and (origin in origins or "*" in origins):
            _allow(response, origin)
        return response

    app.after_request(add_headers)


def _allow(response: Response, origin: str) -> None:
    response.headers["Access-Control-Allow-Origin"] = origin
    response.headers["Access-Control-Expose-Headers"] = EXPOSED
    if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
        response.headers["Access-Control-Allow-Methods"] = METHODS
        response.headers["Access-Control-Max-Age"] = str(PREFLIGHT_S)
        wanted = request.headers.get("Access-Control-Request-Headers")
        if wanted:  # SDKs send headers of their own; a page that is allowed may send any
            response.headers["Access-Control-Allow-Headers"] = wanted
