"""Writes times as the API shows them."""

from __future__ import annotations

from datetime import UTC, datetime


def iso(epoch_ms: int) -> str:
    """Return a time in UTC, with milliseconds."""
    return datetime.fromtimestamp(epoch_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
