"""JSON schemas of pydantic's models, as the components of an OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode
from pydantic_core import core_schema

from api.openai.responses.body import InputMessage
from api.reference.meanings import explained, meanings_in
from api.reference.operation import RequestBody, Schema
from api.reference.schema_edits import with_nulls, without_nulls
from api.schemas.messages import Message

REF = "#/components/schemas/{model}"
Described = tuple[type, JsonSchemaMode, TypeAdapter[Any]]


class SchemaWriter(GenerateJsonSchema):
    """Says what a model of ours takes, where pydantic's own writer says less."""

    def model_schema(self, schema: core_schema.ModelSchema) -> Schema:
        """What we answer may have more fields some day, and no client shall mind."""
        return self._open(super().model_schema(schema))

    def typed_dict_schema(self, schema: core_schema.TypedDictSchema) -> Schema:
        """As `model_schema`."""
        return self._open(super().typed_dict_schema(schema))

    def _open(self, written: Schema) -> Schema:
        if self.mode == "serialization":
            written.pop("additionalProperties", None)
        return written

    def dict_schema(self, schema: core_schema.DictSchema) -> Schema:
        """An object whose keys must match a pattern has no others."""
        written = super().dict_schema(schema)
        return written | {"additionalProperties": False} if "patternProperties" in written else written

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> Schema:
        """A default of null stands for "missing". One that is an object says less than the object's own fields."""
        written = super().default_schema(schema)
        if written.get("default", "") is None or isinstance(written.get("default"), dict):
            del written["default"]
        return written

    def field_title_should_be_set(self, schema: Any) -> bool:
        """Never: a title repeats the field's name."""
        del schema
        return False


def component_schemas(bodies: Iterable[RequestBody], answers: Iterable[type]) -> dict[str, Schema]:
    """The schemas of all of them and of what they consist of, by name."""
    bodies = list(bodies)
    taken: list[Described] = [(body.model, "validation", TypeAdapter(body.model)) for body in bodies]
    told: list[Described] = [(model, "serialization", TypeAdapter(model)) for model in answers]
    _, written = TypeAdapter.json_schemas(
        [*taken, *told],
        ref_template=REF,
        schema_generator=SchemaWriter,
    )
    schemas: dict[str, Schema] = written["$defs"]
    meanings = meanings_in(body.model for body in bodies)
    for body in bodies:
        name = body.model.__name__
        schema = explained(body.model, schemas[name], meanings)
        schemas[name] = with_nulls(schema) if body.dialect.null_is_missing else without_nulls(schema)
    for name in schemas.keys() & {Message.__name__, InputMessage.__name__}:
        schemas[name] = with_nulls(schemas[name])
    return schemas
