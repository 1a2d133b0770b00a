"""Adds nulls to JSON schemas or removes them, because pydantic's `X | None` can mean "null" or "missing"."""

from __future__ import annotations

from typing import Any

from api.reference.operation import Schema
from api.schemas.grammar import NULL


def without_nulls(schema: Schema) -> Schema:
    """Return the schema of an object with fields that can be missing but not null."""
    fields = {name: _not_null(one) for name, one in schema.get("properties", {}).items()}
    return schema | {"properties": fields}


def _not_null(schema: Schema) -> Schema:
    others: list[Schema] = [one for one in schema.get("anyOf", ()) if one != NULL]
    around = {name: value for name, value in schema.items() if name != "anyOf"}
    match others:
        case []:
            return schema
        case [only]:
            return only | around
    return {"anyOf": others} | around


def with_nulls(schema: Schema) -> Schema:
    """Return the schema of an object in which null means that the field is missing, even for unknown fields."""
    required = schema.get("required", ())
    fields = {name: one if name in required else _or_null(one) for name, one in schema["properties"].items()}
    others = schema.get("additionalProperties", False)
    return schema | {"properties": fields, "additionalProperties": others or NULL}


def _or_null(schema: Schema) -> Schema:
    if schema == NULL or NULL in schema.get("anyOf", ()):
        return schema
    outside: dict[str, Any] = {name: schema[name] for name in ("description", "default") if name in schema}
    inside = {name: value for name, value in schema.items() if name not in outside}
    if not inside:  # any value, so null too
        return schema
    return {"anyOf": [*(inside.get("anyOf", [inside])), NULL]} | outside
