"""Reads single fields of a record."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from training.data.faults import Misfit


def expect_fields(fields: Mapping[str, Any], required: Iterable[str], known: frozenset[str]) -> None:
    """Check the names of the fields. Raises `Misfit`."""
    if missing := [name for name in required if name not in fields]:
        raise Misfit("this field is missing", missing[0])
    if unknown := [name for name in fields if name not in known]:
        allowed = ", ".join(sorted(known - {"id", "metadata"}))
        raise Misfit(f"this field is unknown here; known: {allowed}; put notes into 'metadata'", unknown[0])


def text_at(fields: Mapping[str, Any], name: str, *, may_be_empty: bool = False, default: str | None = None) -> str:
    """Return the text of a field. Raises `Misfit`."""
    value = fields.get(name, default)
    return text(value, name, may_be_empty=may_be_empty)


def text(value: Any, *path: str | int, may_be_empty: bool = False) -> str:
    """Return the value if it is a text that can be trained on. Raises `Misfit`."""
    if not isinstance(value, str):
        raise Misfit(f"must be a text in quotes, not {shown(value)}", *path)
    if not may_be_empty and not value.strip():
        raise Misfit("must not be empty", *path)
    if not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
        raise Misfit(r"contains half of a surrogate pair such as \ud83d; write whole characters", *path)
    return value


def shown(value: Any) -> str:
    """Return the start of a JSON value for a message."""
    written = json.dumps(value, ensure_ascii=True)
    return written if len(written) <= 40 else written[:37] + "..."
