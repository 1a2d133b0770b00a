"""Parses a JSON object into its model, and explains what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, get_args

from pydantic import ValidationError

from api.schemas.shown import label, shown
from api.schemas.strict import Strict
from common.errors import InvalidRequest

_FIELD = re.compile(r"[a-z_]+")
_TYPE_TAGS = {"str", "int", "float", "bool", "dict"}  # pydantic's names for the branches of a union

B = TypeVar("B", bound=Strict)


@dataclass(frozen=True, slots=True)
class Dialect:
    """The rules by which a family of routes parses its bodies.

    Args:
        null_is_missing: a field that is null counts as missing; otherwise it is rejected.
        names_inner_fields: an error names the value by its path, such as `messages[0].content`; otherwise by the field
            of the body that contains it.
        null_is_value: null is a value of its own, for fields whose type allows it.
        unknown: the words of an error about a field that the model does not have.
    """

    null_is_missing: bool
    names_inner_fields: bool
    unknown: str
    null_is_value: bool = False


SLM = Dialect(null_is_missing=False, names_inner_fields=False, unknown="is not a field")
SLM_WITH_NULLS = Dialect(null_is_missing=False, names_inner_fields=True, unknown="is not a field", null_is_value=True)
OPENAI = Dialect(null_is_missing=True, names_inner_fields=True, unknown="is not supported")


def parse(schema: type[B], fields: Mapping[str, Any], dialect: Dialect) -> B:
    """Parse a body.

    Raises:
        InvalidRequest: a field is wrong or unknown; `param` names it.
    """
    given = {name: value for name, value in fields.items() if value is not None or not dialect.null_is_missing}
    known = {field.alias or name: field.description for name, field in schema.model_fields.items()}
    for name in given.keys() - known.keys():
        raise InvalidRequest(f"{shown(name)} {dialect.unknown}; known: {', '.join(sorted(known))}", param=label(name))
    try:
        body = schema.model_validate(given)
    except ValidationError as err:
        if dialect.names_inner_fields:
            raise _wrong_inside(err, schema, given, known) from err
        raise _wrong(str(err.errors(include_url=False)[0]["loc"][0]), given, known) from err
    if dialect.null_is_value:
        return body
    if nulls := [name for name, value in given.items() if value is None]:
        raise _wrong(nulls[0], given, known)
    return body


def _wrong(name: str, given: Mapping[str, Any], known: Mapping[str, str | None]) -> InvalidRequest:
    found = shown(given[name]) if name in given else "nothing"
    return InvalidRequest(f"{name} must be {known[name]}; got {found}", param=name)


def _wrong_inside(
    err: ValidationError, schema: type[Strict], given: Mapping[str, Any], known: Mapping[str, str | None]
) -> InvalidRequest:
    # In a union, the branch that failed at the deepest level is the one that the client meant.
    first = max(err.errors(include_url=False), key=lambda error: _path(error["loc"]).count("."))
    param = _path(first["loc"])
    if first["type"] == "value_error":  # one of our own checks, with its own message
        return InvalidRequest(f"{param} {first['ctx']['error']}", param=param)
    if first["type"] == "extra_forbidden":
        return InvalidRequest(f"{param} {OPENAI.unknown}", param=param)
    if param in known:
        return _wrong(param, given, known)
    if (description := _inner_description(schema, first["loc"])) is not None:
        found = "nothing" if first["type"] == "missing" else shown(first["input"])
        return InvalidRequest(f"{param} must be {description}; got {found}", param=param)
    return InvalidRequest(f"{param} is wrong: {first['msg']}", param=param)


def _inner_description(schema: type[Strict], loc: Sequence[int | str]) -> str | None:
    """Return the description of the field at a path through objects; None if it has none, or leads into its value."""
    models: list[type[Strict]] = [schema]
    description = None
    for name in loc:
        found = [one.model_fields[name] for one in models if name in one.model_fields]
        if found:
            description = found[0].description
            models = [one for field in found for one in _models_in(field.annotation)]
        elif _is_written(name):
            description = None
    return description


def _models_in(annotation: Any) -> list[type[Strict]]:
    if isinstance(annotation, type) and issubclass(annotation, Strict):
        return [annotation]
    return [one for part in get_args(annotation) for one in _models_in(part)]


def _path(loc: Sequence[int | str]) -> str:
    """Return the path of the error as the client would write it."""
    path = ""
    for part in loc:
        if isinstance(part, int):
            path += f"[{part}]"
        elif _is_written(part):
            path += f".{part}" if path else part
    return path


def _is_written(part: int | str) -> bool:
    """Return whether the client wrote this part of a path: an index or a name, not a branch of a union."""
    return isinstance(part, int) or (_FIELD.fullmatch(part) is not None and part not in _TYPE_TAGS)
