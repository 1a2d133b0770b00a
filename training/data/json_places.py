"""Finds the place of a field in JSON text. Only faults need it, so it is written for clearness, not for speed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence

_SPACE = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()


def find(text: str, start: int, path: Sequence[str | int]) -> int:
    """Return the offset of the value at `path` inside the valid value that begins at `start`.

    It is the offset of the closest value around it if there is no such value. Of a name that occurs twice in an object
    the last one counts, as it does when the object is read.
    """
    if not path:
        return start
    places = dict(_members(text, start) if text[start] == "{" else _items(text, start) if text[start] == "[" else ())
    return find(text, places[path[0]], path[1:]) if path[0] in places else start


def _members(text: str, start: int) -> Iterator[tuple[str | int, int]]:
    at = _after_space(text, start + 1)
    while text[at] != "}":
        key, end = _DECODER.raw_decode(text, at)
        value = _after_space(text, _after_space(text, end) + 1)
        yield key, value
        at = _next(text, value)


def _items(text: str, start: int) -> Iterator[tuple[str | int, int]]:
    at, index = _after_space(text, start + 1), 0
    while text[at] != "]":
        yield index, at
        at, index = _next(text, at), index + 1


def _next(text: str, value: int) -> int:
    """Return the offset after the value at `value` and the comma behind it."""
    _, end = _DECODER.raw_decode(text, value)
    end = _after_space(text, end)
    return _after_space(text, end + 1) if text[end] == "," else end


def _after_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at
