"""The form that an answer shall have, as clients ask for it."""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import Field, model_validator

from api.schemas import Strict
from common.sampling import Grammar, GrammarKind

SCHEMA_NAME = r"^[A-Za-z0-9_-]{1,64}$"


class JsonSchema(Strict):
    """A named JSON schema. The answer always keeps to it, `strict` or not."""

    name: str = Field(pattern=SCHEMA_NAME)
    description: str | None = None
    definition: dict[str, Any] = Field(alias="schema")
    strict: bool | None = None

    @property
    def grammar(self) -> Grammar:
        """The schema as the worker takes it."""
        return Grammar(GrammarKind.JSON_SCHEMA, json.dumps(self.definition))


class ResponseFormat(Strict):
    """`response_format` of a chat completion."""

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
