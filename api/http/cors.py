"""Allows web pages to call the API from the origins in the settings; no others, and never with cookies."""

from __future__ import annotations

from flask import Flask, Response, request

from common.network import AllowedOrigins

METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE"
EXPOSED = (
    "Location, X-Request-Id, X-Job-Id, X-Model, X-Ignored-Fields, Idempotency-Replayed, Retry-After, Last-Event-ID, "
    "X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset"
)
PREFLIGHT_S = 600  # how long a browser caches the permission


def register_cors(app: Flask, origins: AllowedOrigins) -> None:
    """Allow requests from pages of those origins. Without origins nothing is added.

    Browsers send `null` for a page opened from a file, but also for a sandboxed frame of any site.
    """
    if not origins:
        return

    def add_headers(response: Response) -> Response:
        response.vary.add("Origin")
        origin = request.headers.get("Origin")
        if origin is not None and origins.allow(origin):
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
        if wanted:  # SDKs send their own headers; an allowed page may send any
            response.headers["Access-Control-Allow-Headers"] = wanted
