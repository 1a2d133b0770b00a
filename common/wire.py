"""Reads what another version may have written: while a server is upgraded, both versions share a Redis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any


def known_fields(cls: type, wire: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a dataclass's fields; a newer version may have written others, too."""
    return {one.name: wire[one.name] for one in fields(cls) if one.name in wire}
