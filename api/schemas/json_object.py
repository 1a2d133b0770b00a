"""Reads the JSON object that a request sends."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from api.schemas.nesting import num_levels
from api.schemas.shown import label, shown
from common.errors import InvalidRequest

MAX_LEVELS = 200  # of a body: far from where Python's own reader and writer of JSON give up, at different depths
MAX_EXACT = 2**53  # up to here a float holds every integer

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def json_object(raw: bytes) -> dict[str, Any]:
    """Read a JSON object; a byte order mark before it is skipped. Raises `InvalidRequest`."""
    try:
        value = json.loads(raw.decode("utf-8-sig"), parse_float=_number, parse_constant=_refuse_constant)
    except UnicodeDecodeError as err:
        raise InvalidRequest("The body must be JSON in UTF-8.") from err
    except json.JSONDecodeError as err:
        raise InvalidRequest(f"The body is not valid JSON: {err}.") from err
    except (ValueError, RecursionError) as err:
        raise InvalidRequest("The body is not valid JSON: a number is too long or the nesting too deep.") from err
    if _has_many_levels(raw) and num_levels(value) > MAX_LEVELS:
        raise InvalidRequest(f"The body must not have more than {MAX_LEVELS} levels of objects and lists.")
    if not isinstance(value, dict):
        raise InvalidRequest(f"The body must be a JSON object; got {shown(value)}")
    if _SURROGATE.search(raw):
        _check_unicode(value)
    return value


def _has_many_levels(raw: bytes) -> bool:
    """Whether it could, which is much faster to tell than whether it does."""
    return raw.count(b"{") + raw.count(b"[") > MAX_LEVELS


def _number(text: str) -> float:
    """An integer is an integer however it is written (10.0, 1e1), as in JSON Schema."""
    value = float(text)
    return int(value) if value.is_integer() and abs(value) <= MAX_EXACT else value


def _refuse_constant(name: str) -> NoReturn:
    """Python's parser takes NaN and Infinity, which are no JSON."""
    raise InvalidRequest(f"The body is not valid JSON: {name} is not a JSON value.")


def _check_unicode(fields: Mapping[str, Any]) -> None:
    """JSON can say halves of a surrogate pair, which are no characters. Raises `InvalidRequest`."""
    for name, value in fields.items():
        if not _is_unicode(value):
            raise InvalidRequest(f"{label(name)} must be valid Unicode; got {shown(value)}", param=label(name))


def _is_unicode(value: object) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True
