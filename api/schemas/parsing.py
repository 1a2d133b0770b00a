"""Reads a request body into its model, and says what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from api.schemas.job_options import Body
from api.schemas.json_object import json_object
from api.schemas.shown import label, shown
from common.errors import InvalidRequest

B = TypeVar("B", bound=Body)


def parse_body(schema: type[B], raw: bytes) -> B:
    """Read a request body; an empty one counts as `{}`. A field can be left out, but is never null.

    Raises:
        InvalidRequest: it is no JSON object, or a field is wrong; `param` names the field.
    """
    fields = json_object(raw) if raw.strip() else {}
    known = {field.alias or name: field.description for name, field in schema.model_fields.items()}
    for name in fields.keys() - known.keys():
        raise InvalidRequest(f"{shown(name)} is not a field; known: {', '.join(sorted(known))}", param=label(name))
    try:
        body = schema.model_validate(fields)
    except ValidationError as err:
        raise _wrong(str(err.errors(include_url=False)[0]["loc"][0]), fields, known) from err
    if nulls := [name for name, value in fields.items() if value is None]:
        raise _wrong(nulls[0], fields, known)
    return body


def _wrong(name: str, fields: dict[str, Any], known: Mapping[str, str | None]) -> InvalidRequest:
    found = shown(fields[name]) if name in fields else "nothing"
    return InvalidRequest(f"{name} must be {known[name]}; got {found}", param=name)
