"""The form that an answer shall have, as clients ask for it. Whether a grammar can be used, its worker says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from api.schemas.nesting import num_levels
from api.schemas.strict import FIRST_ERROR, Strict
from common.jobs.sampling import MAX_GRAMMAR_CHARS, Grammar, GrammarKind

MAX_CHOICES = 256
MAX_SCHEMA_LEVELS = 100  # what reads and writes JSON here and in the worker bears more
NULL = {"type": "null"}
SCHEMA_NAME = r"^[A-Za-z0-9_-]{1,64}$"
SCHEMA_BOUNDS = f"of at most {MAX_GRAMMAR_CHARS} characters and {MAX_SCHEMA_LEVELS} levels"


def _bounded_schema(schema: dict[str, Any]) -> dict[str, Any]:
    if num_levels(schema) > MAX_SCHEMA_LEVELS or len(_source(schema)) > MAX_GRAMMAR_CHARS:
        raise ValueError(f"must be a JSON schema {SCHEMA_BOUNDS}")
    return schema


def _bounded_choice(answers: list[str]) -> list[str]:
    if len(_source(answers)) > MAX_GRAMMAR_CHARS:
        raise ValueError(f"must have at most {MAX_GRAMMAR_CHARS} characters")
    return answers


Schema = Annotated[dict[str, Any], AfterValidator(_bounded_schema)]
Regex = Annotated[str, Field(min_length=1, max_length=MAX_GRAMMAR_CHARS)]
Answer = Annotated[str, Field(min_length=1)]
Choice = Annotated[
    list[Answer], Field(min_length=1, max_length=MAX_CHOICES), FIRST_ERROR, AfterValidator(_bounded_choice)
]


def only_if_json_schema(*fields: str) -> dict[str, Any]:
    """Says in JSON Schema that an object has these fields if, and only if, its type is "json_schema"."""
    return {
        "if": {"properties": {"type": {"const": "json_schema"}}},
        "then": {"required": list(fields), "properties": {name: {"not": NULL} for name in fields}},
        "else": {"properties": dict.fromkeys(fields, NULL)},
    }


class JsonSchema(Strict):
    """A JSON schema. The answer always keeps to it, `strict` or not."""

    name: str | None = Field(None, pattern=SCHEMA_NAME)
    description: str | None = None
    definition: Schema = Field(alias="schema")
    strict: bool | None = None

    @property
    def grammar(self) -> Grammar:
        """The schema as the worker takes it."""
        return schema_grammar(self.definition)


class ResponseFormat(Strict):
    """`response_format`."""

    model_config = ConfigDict(json_schema_extra=only_if_json_schema("json_schema"))

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    def _has_a_schema_where_one_is_meant(self) -> ResponseFormat:
        if (self.type == "json_schema") != (self.json_schema is not None):
            raise ValueError('must have json_schema if, and only if, its type is "json_schema"')
        return self

    @property
    def grammar(self) -> Grammar | None:
        """What the worker is to keep to; None where anything goes."""
        if self.json_schema is not None:
            return self.json_schema.grammar
        return Grammar(GrammarKind.JSON_OBJECT) if self.type == "json_object" else None


def schema_grammar(schema: dict[str, Any]) -> Grammar:
    """Answers are JSON that keeps to the schema."""
    return Grammar(GrammarKind.JSON_SCHEMA, _source(schema))


def choice_grammar(answers: Sequence[str]) -> Grammar:
    """Answers are one of these."""
    return Grammar(GrammarKind.CHOICE, _source(answers))


def _source(value: object) -> str:
    """Raises `ValueError` for a number that JSON does not have."""
    return json.dumps(value, allow_nan=False)
