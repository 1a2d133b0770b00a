"""Reads numbers of a query or a header."""

from __future__ import annotations

from api.schemas.shown import shown
from common.errors import InvalidRequest


def parse_limit(text: str | None) -> int:
    """The `limit` of a listing: 1 to 1000, 100 where none is given. Raises `InvalidRequest`."""
    if text is None:
        return 100
    limit = natural(text)
    if limit is None or not 1 <= limit <= 1000:
        raise InvalidRequest(f"limit must be an integer from 1 to 1000; got {shown(text)}", param="limit")
    return limit


def parse_last_event_id(text: str | None) -> int:
    """The number of the last event a client has seen; -1 where it gives none. Raises `InvalidRequest`."""
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
    """The value of up to 18 plain digits; None for anything else."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 18 else None
