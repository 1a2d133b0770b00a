"""Parses numbers in queries and headers."""

from __future__ import annotations

from api.schemas.shown import shown
from common.errors import InvalidRequest

MAX_SEARCH_CHARS = 200


def parse_limit(text: str | None) -> int:
    """Return the `limit` of a listing, 1 to 1000; 100 if it is missing. Raises `InvalidRequest`."""
    if text is None:
        return 100
    limit = natural(text)
    if limit is None or not 1 <= limit <= 1000:
        raise InvalidRequest(f"limit must be an integer from 1 to 1000; got {shown(text)}", param="limit")
    return limit


def parse_search(text: str | None) -> str | None:
    """Return the text `q` that a listing must have, if there is one. Raises `InvalidRequest`."""
    if text is not None and not 1 <= len(text) <= MAX_SEARCH_CHARS:
        raise InvalidRequest(f"q must be a text of 1 to {MAX_SEARCH_CHARS} characters", param="q")
    return text


def parse_last_event_id(text: str | None) -> int:
    """Return the seq of the last event that a client has seen; -1 if it is missing. Raises `InvalidRequest`."""
    if text is None:
        return -1
    seq = natural(text)
    if seq is None:
        raise InvalidRequest(
            f"Last-Event-ID must be the id of an event of this stream, 0 or more; got {shown(text)}",
            param="last_event_id",
        )
    return seq


def natural(text: str) -> int | None:
    """Return the value of up to 18 ASCII digits; None for any other text."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 18 else None
