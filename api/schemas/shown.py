"""Formats rejected values and field names for error messages."""

from __future__ import annotations

import json
from itertools import islice

SHOWN_CHARS = 60  # of a rejected value


def label(name: str) -> str:
    """Return the name of a field in a form that is safe for `param`."""
    return name[:SHOWN_CHARS].encode("utf-8", "backslashreplace").decode()


def shown(value: object) -> str:
    """Return a rejected value in a short and printable form."""
    text = repr(value[: SHOWN_CHARS + 1]) if isinstance(value, str) else _beginning(value)
    return text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]}..."


def _beginning(value: object) -> str:
    """Return the beginning of the value's JSON, without encoding the rest."""
    return "".join(islice(json.JSONEncoder().iterencode(value), SHOWN_CHARS + 1))
