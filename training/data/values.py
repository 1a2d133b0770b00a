"""Reads single fields of a record."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

from training.data.faults import Misfit, gather

NOTES = frozenset({"id", "metadata"})  # fields that every record may have and no model sees


def expect_known(fields: Mapping[str, Any], known: frozenset[str], *path: str | int) -> None:
    """Check that there are no other fields. Raises `Misfit`."""
    if len(unknown := fields.keys() - known):
        message = f"this field is unknown here; known: {', '.join(sorted(known - NOTES))}; put notes into 'metadata'"
        gather(*(partial(_refuse, message, *path, name) for name in fields if name in unknown))


def _refuse(message: str, *path: str | int) -> None:
    raise Misfit(message, *path)


def field(fields: Mapping[str, Any], name: str, *path: str | int) -> Any:
    """Return the value of a field; `path` leads to the object. Raises `Misfit` if there is none."""
    if name not in fields:
        raise Misfit("this field is missing", *path, name)
    return fields[name]


def text_at(fields: Mapping[str, Any], name: str) -> str:
    """Return the text of a field. Raises `Misfit`."""
    return text(field(fields, name), name)


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
