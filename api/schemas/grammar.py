"""The fields that set the form of an answer. Whether a grammar can be compiled is checked by the worker."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from api.schemas.nesting import num_levels
from api.schemas.strict import FIRST_ERROR, Strict
from common.jobs.sampling import MAX_GRAMMAR_CHARS, Grammar, GrammarKind

MAX_CHOICES = 256
MAX_SCHEMA_LEVELS = 100  # the JSON libraries here and in the worker can handle more
NULL = {"type": "null"}
SCHEMA_NAME = r"^[A-Za-z0-9_-]{1,64}$"
SCHEMA_BOUNDS = f"of at most {MAX_GRAMMAR_CHARS} characters and {MAX_SCHEMA_LEVELS} levels"


def _bounded_schema(schema: dict[str, Any]) -> dict[str, Any]:
    if num_levels(schema) > MAX_SCHEMA_LEVELS or len(_source(schema)) > MAX_GRAMMAR_CHARS:
        raise ValueError(f"must be a JSON schema {SCHEMA_BOUNDS}")
    return schema


def _bounded_choices(answers: list[str]) -> list[str]:
    if len(_source(answers)) > MAX_GRAMMAR_CHARS:
        raise ValueError(f"must have at most {MAX_GRAMMAR_CHARS} characters")
    return answers


Schema = Annotated[dict[str, Any], AfterValidator(_bounded_schema)]
Regex = Annotated[str, Field(min_length=1, max_length=MAX_GRAMMAR_CHARS)]
ChoiceText = Annotated[str, Field(min_length=1)]
Choices = Annotated[
    list[ChoiceText], Field(min_length=1, max_length=MAX_CHOICES), FIRST_ERROR, AfterValidator(_bounded_choices)
]


def only_if_json_schema(*fields: str) -> dict[str, Any]:
    """Return the JSON Schema rule that an object has these fields if, and only if, its type is "json_schema"."""
    return {
        "if": {"properties": {"type": {"const": "json_schema"}}},
        "then": {"required": list(fields), "properties": {name: {"not": NULL} for name in fields}},
        "else": {"properties": dict.fromkeys(fields, NULL)},
    }


class JsonSchema(Strict):
    """A JSON schema. The answer always follows it, even if not `strict`."""

    name: str | None = Field(None, pattern=SCHEMA_NAME)
    description: str | None = None
    definition: Schema = Field(alias="schema")
    strict: bool | None = None

    @property
    def grammar(self) -> Grammar:
        """The schema in the form for the worker."""
        return schema_grammar(self.definition)


def _response_format_rule() -> dict[str, Any]:
    """Return the JSON Schema rules of `ResponseFormat`: which of its fields each type has."""
    is_object = {"properties": {"type": {"const": "json_object"}}}
    no_schema = {"properties": {"schema": NULL}}
    return {"allOf": [only_if_json_schema("json_schema"), {"if": is_object, "else": no_schema}]}


class ResponseFormat(Strict):
    """`response_format`. A `json_object` may have llama.cpp's `schema`."""

    model_config = ConfigDict(json_schema_extra=_response_format_rule())

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None
    definition: Schema | None = Field(None, alias="schema")

    @model_validator(mode="after")
    def _has_schema_if_required(self) -> ResponseFormat:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError('must have json_schema if, and only if, its type is "json_schema"')
        if self.definition is not None and self.type != "json_object":
            raise ValueError('can only have schema if its type is "json_object"')
        return self

    @property
    def grammar(self) -> Grammar | None:
        """The grammar for the worker; None if any answer is allowed."""
        if self.definition is not None:
            return schema_grammar(self.definition)
        if self.json_schema is not None:
            return self.json_schema.grammar
        return Grammar(GrammarKind.JSON_OBJECT) if self.type == "json_object" else None


def schema_grammar(schema: dict[str, Any]) -> Grammar:
    """Return the grammar of answers that follow the schema."""
    return Grammar(GrammarKind.JSON_SCHEMA, _source(schema))


def choice_grammar(answers: Sequence[str]) -> Grammar:
    """Return the grammar of exactly these answers."""
    return Grammar(GrammarKind.CHOICE, _source(answers))


def _source(value: object) -> str:
    """Return the JSON text. Raises `ValueError` for NaN and infinities."""
    return json.dumps(value, allow_nan=False)
