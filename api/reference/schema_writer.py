"""Writes the JSON schemas of pydantic models as the components of an OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode
from pydantic_core import core_schema

from api.openai.responses.input import InputMessage
from api.reference.meanings import explained, meanings_in
from api.reference.operation import RequestBody, Schema
from api.reference.schema_edits import with_nulls, without_nulls
from api.schemas.messages import Message

REF = "#/components/schemas/{model}"
Described = tuple[type, JsonSchemaMode, TypeAdapter[Any]]


class SchemaWriter(GenerateJsonSchema):
    """Describes our models more precisely than pydantic's own writer."""

    def model_schema(self, schema: core_schema.ModelSchema) -> Schema:
        """Allow more fields in responses, so that clients accept fields of future versions."""
        return self._open(super().model_schema(schema))

    def typed_dict_schema(self, schema: core_schema.TypedDictSchema) -> Schema:
        """See `model_schema`."""
        return self._open(super().typed_dict_schema(schema))

    def _open(self, written: Schema) -> Schema:
        if self.mode == "serialization":
            written.pop("additionalProperties", None)
        return written

    def dict_schema(self, schema: core_schema.DictSchema) -> Schema:
        """Forbid keys that do not match the pattern, if there is one."""
        written = super().dict_schema(schema)
        return written | {"additionalProperties": False} if "patternProperties" in written else written

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> Schema:
        """Omit a default of null, which means "missing", and of an object, because its fields have defaults."""
        written = super().default_schema(schema)
        if written.get("default", "") is None or isinstance(written.get("default"), dict):
            del written["default"]
        return written

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Never: a title repeats the field's name."""
        del schema
        return False


def component_schemas(bodies: Iterable[RequestBody], responses: Iterable[type]) -> dict[str, Schema]:
    """Return the schemas of these models and their parts, by name."""
    bodies = list(bodies)
    taken: list[Described] = [(body.model, "validation", TypeAdapter(body.model)) for body in bodies]
    models_sent: list[Described] = [(model, "serialization", TypeAdapter(model)) for model in responses]
    _, written = TypeAdapter.json_schemas(
        [*taken, *models_sent],
        ref_template=REF,
        schema_generator=SchemaWriter,
    )
    schemas: dict[str, Schema] = written["$defs"]
    meanings = meanings_in(body.model for body in bodies)
    for body in bodies:
        name = body.model.__name__
        schema = explained(body.model, schemas[name], meanings | meanings_in([body.model]))
        schemas[name] = with_nulls(schema) if body.dialect.null_is_missing else without_nulls(schema)
    for name in schemas.keys() & {Message.__name__, InputMessage.__name__}:
        schemas[name] = with_nulls(schemas[name])
    return schemas
