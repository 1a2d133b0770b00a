"""The form that a response's text must have."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, model_validator

from api.schemas.grammar import SCHEMA_NAME, Schema, only_if_json_schema, schema_grammar
from api.schemas.ignored import IGNORED
from api.schemas.strict import Strict
from common.jobs.sampling import Grammar, GrammarKind


class TextFormat(Strict):
    """`text.format`, with the fields of a `JsonSchema` if its type is "json_schema"."""

    model_config = ConfigDict(json_schema_extra=only_if_json_schema("name", "schema"))

    type: Literal["text", "json_object", "json_schema"]
    name: str | None = Field(None, pattern=SCHEMA_NAME)
    description: str | None = None
    definition: Schema | None = Field(None, alias="schema")
    strict: bool | None = None

    @model_validator(mode="after")
    def _has_schema_if_required(self) -> TextFormat:
        needs = self.type == "json_schema"
        if needs != (self.definition is not None) or needs != (self.name is not None):
            raise ValueError('must have a name and a schema if, and only if, its type is "json_schema"')
        return self

    @property
    def grammar(self) -> Grammar | None:
        """The grammar for the worker; None if any answer is allowed."""
        if self.definition is not None:
            return schema_grammar(self.definition)
        return Grammar(GrammarKind.JSON_OBJECT) if self.type == "json_object" else None


class TextOptions(Strict):
    """`text`."""

    format: TextFormat = TextFormat(type="text")
    verbosity: Annotated[str | None, IGNORED] = None
