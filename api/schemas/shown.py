"""How a refused value may stand in a message."""

from __future__ import annotations

import json
from itertools import islice

SHOWN_CHARS = 60  # of a refused value


def label(name: str) -> str:
    """The name of a field as it may stand in `param`."""
    return name[:SHOWN_CHARS].encode("utf-8", "backslashreplace").decode()


def shown(value: object) -> str:
    """A refused value as it may stand in a message: short, and always printable."""
    text = repr(value[: SHOWN_CHARS + 1]) if isinstance(value, str) else _beginning(value)
    return text if len(text) <= SHOWN_CHARS else f"{text[:SHOWN_CHARS]}..."


def _beginning(value: object) -> str:
    """As JSON: no more of it than will be shown."""
    return "".join(islice(json.JSONEncoder().iterencode(value), SHOWN_CHARS + 1))
