"""How deep a JSON value goes."""

from __future__ import annotations

from collections.abc import Iterable


def num_levels(value: object) -> int:
    """1 for a value that is no list or object and for an empty one; one more for each level of what is in it."""
    levels, layer = 0, [value]
    while layer:
        levels += 1
        layer = [child for one in layer for child in _children(one)]
    return levels


def _children(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()
