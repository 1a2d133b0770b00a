"""Adds the meanings of fields to their descriptions, which only say which values are allowed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from inspect import get_annotations

from pydantic import BaseModel

from api.reference.operation import Schema
from api.schemas.meaning import Meaning


def meanings_in(models: Iterable[type[BaseModel]]) -> dict[str, str]:
    """Return the meanings by field name, which those fields of other bodies share that have none of their own."""
    return {
        field.alias or name: mark.text
        for model in models
        for part in reversed(_parts(model))
        for name, field in part.model_fields.items()
        for mark in field.metadata
        if isinstance(mark, Meaning)
    }


def explained(model: type[BaseModel], schema: Schema, meanings: Mapping[str, str]) -> Schema:
    """Return the schema with each field's meaning and allowed values; inherited fields come last."""
    fields = schema.get("properties", {})
    return schema | {"properties": {name: _explained(fields[name], meanings.get(name)) for name in _names(model)}}


def _names(model: type[BaseModel]) -> list[str]:
    declared = [name for part in _parts(model) for name in get_annotations(part)]
    fields = model.model_fields
    return [fields[name].alias or name for name in dict.fromkeys(declared) if name in fields]


def _parts(model: type[BaseModel]) -> list[type[BaseModel]]:
    """Return the model and its base models."""
    return [part for part in model.__mro__ if issubclass(part, BaseModel) and part is not BaseModel]


def _explained(schema: Schema, meaning: str | None) -> Schema:
    must = schema.get("description")
    if meaning is None or must is None:
        return schema
    return schema | {"description": f"{meaning} {must[0].upper()}{must[1:]}."}
