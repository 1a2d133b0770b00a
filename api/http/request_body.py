"""Reads a request's body within the size limit, and only in the form that the route expects."""

from __future__ import annotations

from collections.abc import Sequence

from flask import request
from werkzeug.exceptions import RequestEntityTooLarge

from api.current import begin_work, services
from api.schemas.shown import shown
from common.errors import BodyTooLarge, UnsupportedMediaType

FORM = "multipart/form-data"
FORM_BYTES = 65_536  # maximum size of a form without its file


def has_body() -> bool:
    """Return whether the request has a body."""
    return bool(request.content_length) or (request.content_length is None and "Transfer-Encoding" in request.headers)


def json_text() -> bytes:
    """Return the JSON body of the request; empty if there is none.

    Other content types are rejected: browsers send some of them for any site's page without a preflight request.

    Raises:
        UnsupportedMediaType: the body is compressed or has another content type.
        RateLimitExceeded: as `begin_work`.
        RequestEntityTooLarge: the body exceeds the limit.
    """
    raw = _raw_body()
    if raw.strip() and not request.is_json:
        raise UnsupportedMediaType(f"The body must be sent as Content-Type: application/json; got {_sent_type()}")
    return raw


def body_of_types(types: Sequence[str], *, hint: str) -> bytes:
    """Return the body of a request with one of these content types; empty if there is none.

    Args:
        types: the content types.
        hint: what to do if the body is too large.

    Raises:
        UnsupportedMediaType, RateLimitExceeded: as `json_text`.
        BodyTooLarge: the body exceeds the limit.
    """
    try:
        raw = _raw_body()
    except RequestEntityTooLarge as err:
        limit = services().settings.max_body_bytes
        raise BodyTooLarge(f"The body must not be larger than {limit} bytes; {hint}") from err
    if raw.strip() and request.mimetype not in types:
        raise UnsupportedMediaType(f"The body must be sent as Content-Type: {', '.join(types)}; got {_sent_type()}")
    return raw


def _raw_body() -> bytes:
    refuse_compression()
    raw = request.get_data()
    if request.content_length is None and len(raw) >= services().settings.max_body_bytes:
        raise RequestEntityTooLarge  # werkzeug silently truncates a chunked body at the limit
    begin_work(len(raw))  # only now, so that a slow client does not delay others
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
