"""Reading a JSON body of these routes, and how a refusal reads."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import ValidationError

from api.schemas.shown import label, shown
from api.schemas.strict import Strict
from common.errors import InvalidRequest

_FIELD = re.compile(r"[a-z_]+")
_TYPE_TAGS = {"str", "int", "float", "bool", "dict"}  # pydantic's names for the branches of a union

B = TypeVar("B", bound=Strict)


def parse(schema: type[B], fields: Mapping[str, Any]) -> B:
    """Read a request. A field that is null counts as left out, as in OpenAI's API.

    Raises:
        InvalidRequest: a field is wrong or not supported; `param` is its path, such as `messages[0].content`.
    """
    given = {name: value for name, value in fields.items() if value is not None}
    known = {field.alias or name: field.description for name, field in schema.model_fields.items()}
    for name in given.keys() - known.keys():
        raise InvalidRequest(f"{shown(name)} is not supported; known: {', '.join(sorted(known))}", param=label(name))
    try:
        return schema.model_validate(given)
    except ValidationError as err:
        raise _refusal(err, given, known) from err


def _refusal(err: ValidationError, given: Mapping[str, Any], known: Mapping[str, str | None]) -> InvalidRequest:
    # Of the branches of a union, the one that got furthest in is the one that the client meant.
    first = max(err.errors(include_url=False), key=lambda error: _path(error["loc"]).count("."))
    param = _path(first["loc"])
    if first["type"] == "value_error":  # a check of ours, with words of its own
        return InvalidRequest(f"{param} {first['ctx']['error']}", param=param)
    if first["type"] == "extra_forbidden":
        return InvalidRequest(f"{param} is not supported", param=param)
    if param in known:
        found = shown(given[param]) if param in given else "nothing"
        return InvalidRequest(f"{param} must be {known[param]}; got {found}", param=param)
    return InvalidRequest(f"{param} is wrong: {first['msg']}", param=param)


def _path(loc: Sequence[int | str]) -> str:
    """Where the error is, in the client's terms."""
    path = ""
    for part in loc:
        if isinstance(part, int):
            path += f"[{part}]"
        elif _FIELD.fullmatch(part) and part not in _TYPE_TAGS:
            path += f".{part}" if path else part
    return path
