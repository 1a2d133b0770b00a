"""Checks at upload whether a file looks like a dataset. `/slm/datasets/check` and every training check all of it."""

from __future__ import annotations

import json
from collections.abc import Iterable

from common.errors import InvalidRequest

FORMS = 'JSON Lines such as {"messages": [...]}, a JSON list, or CSV with a header such as instruction,response'


def check_shape(lines: Iterable[str]) -> None:
    """Check the first line of a dataset that is not empty. Raises `InvalidRequest`."""
    ended = (part for line in lines for part in line.rstrip("\r").split("\r"))  # some old programs only write CR
    number, first = next(((at, text) for at, line in enumerate(ended, 1) if (text := line.strip("\ufeff \t"))), (1, ""))
    if not first:
        raise InvalidRequest(f"file is empty; it must be {FORMS}", param="file")
    if first.startswith("{"):
        _check_object(number, first)
    elif not first.startswith("[") and not any(delimiter in first for delimiter in ",;\t"):
        raise InvalidRequest(f"line {number} of the file is neither JSON nor CSV; it must be {FORMS}", param="file")


def _check_object(number: int, line: str) -> None:
    try:
        json.loads(line)
    except (ValueError, RecursionError) as err:
        raise InvalidRequest(
            f"line {number} of the file is not valid JSON ({err}); each line must be one object", param="file"
        ) from err
