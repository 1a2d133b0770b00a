"""The fields under `/v1` that set the form of an answer, under the names that OpenAI, vLLM and llama.cpp give them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

from pydantic import BeforeValidator, Field, model_validator

from api.schemas.grammar import (
    MAX_CHOICES,
    SCHEMA_BOUNDS,
    Choices,
    Regex,
    ResponseFormat,
    Schema,
    choice_grammar,
    schema_grammar,
)
from api.schemas.meaning import Meaning
from api.schemas.strict import Strict
from common.errors import InvalidRequest
from common.jobs.sampling import MAX_GRAMMAR_CHARS, Grammar, GrammarKind


def _parsed(schema: Any) -> Any:
    """Parse a schema that was sent as a text; other texts are left for the next check to reject."""
    try:
        return json.loads(schema) if isinstance(schema, str) else schema
    except (ValueError, RecursionError):
        return schema


SchemaOrText = Annotated[Schema, BeforeValidator(_parsed, json_schema_input_type=dict[str, Any] | str)]
Gbnf = Annotated[str, Field(min_length=1, max_length=MAX_GRAMMAR_CHARS)]

_REGEX_FORM = f"a regular expression of 1 to {MAX_GRAMMAR_CHARS} characters"
_CHOICE = f"a list of 1 to {MAX_CHOICES} non-empty strings"
_GBNF = f"a grammar of 1 to {MAX_GRAMMAR_CHARS} characters"


class Form(NamedTuple):
    """A form that the client asked for, and the path of the field that set it."""

    field: str
    grammar: Grammar


def _regex(source: str) -> Grammar:
    return Grammar(GrammarKind.REGEX, source)


def _gbnf(source: str) -> Grammar:
    return Grammar(GrammarKind.GBNF, source)


def _any_object(_: bool) -> Grammar:
    return Grammar(GrammarKind.JSON_OBJECT)


class StructuredOutputs(Strict):
    """vLLM's `structured_outputs`: exactly one of these."""

    definition: SchemaOrText | None = Field(None, alias="json")
    regex: Regex | None = None
    choice: Choices | None = None
    grammar: Gbnf | None = None
    json_object: bool | None = None

    @model_validator(mode="after")
    def _has_one_form(self) -> StructuredOutputs:
        if len(self.forms()) != 1:
            raise ValueError("must have exactly one of json, regex, choice, grammar and json_object")
        return self

    def forms(self) -> list[Form]:
        """Return the forms that are set."""
        return _forms(
            ("json", self.definition, schema_grammar),
            ("regex", self.regex, _regex),
            ("choice", self.choice, choice_grammar),
            ("grammar", self.grammar, _gbnf),
            ("json_object", self.json_object or None, _any_object),
        )


def _forms(*fields: tuple[str, Any, Callable[[Any], Grammar]]) -> list[Form]:
    """Return the forms of the fields that are set; each has a name, a value, and a function of the value."""
    return [Form(name, make(value)) for name, value, make in fields if value is not None]


class AnswerForm(Strict):
    """The fields of completions and chat completions that set the form of an answer; at most one may be set."""

    response_format: ResponseFormat | None = Field(None, description="an object with a type")
    structured_outputs: Annotated[
        StructuredOutputs | None, Meaning("vLLM's name for the form that the answer must have.")
    ] = Field(None, description="an object with one of json, regex, choice, grammar and json_object")
    guided_json: Annotated[SchemaOrText | None, Meaning("vLLM's older name for a JSON schema.")] = Field(
        None, description=f"a JSON schema {SCHEMA_BOUNDS}, or its text"
    )
    guided_regex: Annotated[Regex | None, Meaning("vLLM's older name for an expression that the answer matches.")] = (
        Field(None, description=_REGEX_FORM)
    )
    guided_choice: Annotated[Choices | None, Meaning("vLLM's older name for the allowed answers.")] = Field(
        None, description=_CHOICE
    )
    guided_grammar: Annotated[Gbnf | None, Meaning("vLLM's older name for `grammar`.")] = Field(None, description=_GBNF)
    grammar: Annotated[Gbnf | None, Meaning("A grammar in llama.cpp's GBNF that the answer follows.")] = Field(
        None, description=_GBNF
    )
    json_schema: Annotated[Schema | None, Meaning("llama.cpp's name for a JSON schema.")] = Field(
        None, description=f"a JSON schema {SCHEMA_BOUNDS}"
    )

    @model_validator(mode="after")
    def _has_one_answer_form(self) -> AnswerForm:
        fields = [form.field for form in self._all_forms()]
        if len(fields) > 1:
            raise InvalidRequest(f"{fields[1]} must not be used together with {fields[0]}", param=fields[1])
        return self

    @property
    def form(self) -> Grammar | None:
        """The form that the answer must have; None if any."""
        return next((form.grammar for form in self._all_forms()), None)

    @property
    def form_names(self) -> dict[str, str]:
        """The worker's name of the field that sets the form -> the request's."""
        return {form.grammar.field: form.field for form in self._all_forms()}

    def _all_forms(self) -> list[Form]:
        of_format = None if self.response_format is None else self.response_format.grammar
        of_vllm = [] if self.structured_outputs is None else self.structured_outputs.forms()
        return [
            *([] if of_format is None else [Form("response_format", of_format)]),
            *(Form(f"structured_outputs.{form.field}", form.grammar) for form in of_vllm),
            *_forms(
                ("guided_json", self.guided_json, schema_grammar),
                ("guided_regex", self.guided_regex, _regex),
                ("guided_choice", self.guided_choice, choice_grammar),
                ("guided_grammar", self.guided_grammar, _gbnf),
                ("json_schema", self.json_schema, schema_grammar),
                ("grammar", self.grammar, _gbnf),
            ),
        ]
