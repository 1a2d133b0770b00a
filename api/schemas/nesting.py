"""Measures how deeply a JSON value is nested."""

from __future__ import annotations

from collections.abc import Iterable


def num_levels(value: object) -> int:
    """Return the number of levels: 1 for a scalar or an empty list or object, one more for each level inside."""
    levels, layer = 0, [value]
    while layer:
        levels += 1
        layer = [child for one in layer for child in _children(one)]
    return levels


def _children(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()
