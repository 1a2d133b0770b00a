"""Parses the JSON object in a request."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NoReturn

from api.schemas.nesting import num_levels
from api.schemas.shown import label, shown
from common.errors import InvalidRequest

MAX_LEVELS = 200  # of a body; far below the different depths at which Python's JSON parser and writer fail
MAX_EXACT = 2**53  # floats represent all integers up to here exactly

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def json_object(raw: bytes) -> dict[str, Any]:
    """Parse a JSON object, and skip a byte order mark before it. Raises `InvalidRequest`."""
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
    """Return whether the nesting can be too deep: a much faster check than the exact one."""
    return raw.count(b"{") + raw.count(b"[") > MAX_LEVELS


def _number(text: str) -> float:
    """Parse a number; a whole number is an integer in every notation (10.0, 1e1), as in JSON Schema."""
    value = float(text)
    return int(value) if value.is_integer() and abs(value) <= MAX_EXACT else value


def _refuse_constant(name: str) -> NoReturn:
    """Reject NaN and Infinity, which Python's parser accepts although they are not JSON."""
    raise InvalidRequest(f"The body is not valid JSON: {name} is not a JSON value.")


def _check_unicode(fields: Mapping[str, Any]) -> None:
    """Reject halves of surrogate pairs, which JSON can express but are not characters. Raises `InvalidRequest`."""
    for name, value in fields.items():
        if not _is_unicode(value):
            raise InvalidRequest(f"{label(name)} must be valid Unicode; got {shown(value)}", param=label(name))


def _is_unicode(value: object) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True
