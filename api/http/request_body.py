"""Reads a request's body: within its limit, and in no other form than the route wants."""

from __future__ import annotations

from flask import request
from werkzeug.exceptions import RequestEntityTooLarge

from api.current import services, take_turn
from api.schemas.shown import shown
from common.errors import UnsupportedMediaType

FORM = "multipart/form-data"


def has_body() -> bool:
    """Whether the request brings one."""
    return bool(request.content_length) or (request.content_length is None and "Transfer-Encoding" in request.headers)


def json_text() -> bytes:
    """The body of a route that takes JSON; empty if the request has none.

    A body of another type is refused: a browser sends those for any site's page without asking the server first.

    Raises:
        UnsupportedMediaType: it is compressed, or says that it is something else.
        RateLimitExceeded: the caller's turn does not come (`take_turn`).
        RequestEntityTooLarge: it is over the limit.
    """
    refuse_compression()
    raw = request.get_data()
    if request.content_length is None and len(raw) >= services().settings.max_body_bytes:
        raise RequestEntityTooLarge  # werkzeug cuts a chunked body off at the limit, without a word
    take_turn(len(raw))  # not before all is there: a slow client holds up nobody
    if raw.strip() and not request.is_json:
        raise UnsupportedMediaType(f"The body must be sent as Content-Type: application/json; got {_sent_type()}")
    return raw


def require_form() -> None:
    """Raises `UnsupportedMediaType` unless the body is a multipart form."""
    refuse_compression()
    if request.mimetype != FORM:
        raise UnsupportedMediaType(f"The body must be sent as Content-Type: {FORM}; got {_sent_type()}")


def refuse_compression() -> None:
    """Raises `UnsupportedMediaType` if the body is compressed."""
    coding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if coding not in ("", "identity"):
        raise UnsupportedMediaType(f"The body must not be compressed; got Content-Encoding: {shown(coding)}")


def _sent_type() -> str:
    return shown(request.mimetype) if request.mimetype else "none"
