"""Tools: the functions that an answer may call, the forms in which models write calls, and their grammar."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from common.jobs.sampling import Grammar, GrammarKind

MAX_CALLS = 16  # in one answer, if several are allowed


@dataclass(frozen=True, slots=True)
class ToolForm:
    """How a model writes a call: `marker`, then `{"name": "…", "<arguments_key>": {…}}`.

    If `begins_answer`, calls can only be at the beginning of an answer, and the marker is a part of the call itself.
    """

    name: str
    marker: str
    arguments_key: str = "arguments"
    begins_answer: bool = False

    def call_beginning(self, function: str) -> str:
        """Return the call's JSON up to its arguments."""
        return f'{{"name": {json.dumps(function)}, "{self.arguments_key}": '


HERMES = ToolForm("hermes", "<tool_call>")
MISTRAL = ToolForm("mistral", "[TOOL_CALLS]")
LLAMA = ToolForm("llama", '{"name": "', arguments_key="parameters", begins_answer=True)
FORMS: Mapping[str, ToolForm] = {form.name: form for form in (HERMES, MISTRAL, LLAMA)}


@dataclass(frozen=True, slots=True)
class Function:
    """A function that an answer may call.

    `parameters` is a JSON schema. If not `strict`, keywords that the grammar library does not know are ignored.
    """

    name: str
    parameters: Mapping[str, Any]
    strict: bool


@dataclass(frozen=True, slots=True)
class ToolRules:
    """The calls that an answer may have: the source of a grammar of the kind `TOOLS`.

    Args:
        functions: those that may be called.
        must_call: whether the answer has nothing but calls; otherwise it may have text, and calls after it.
        max_calls: the maximum number of calls.
        content: the grammar of an answer without calls, in JSON form; None if any text is allowed.
        form: the name of the model's `ToolForm`. Only the worker knows it.
        marker_id: the marker's token id if it is a special token of the model.
    """

    functions: tuple[Function, ...]
    must_call: bool
    max_calls: int = MAX_CALLS
    content: Mapping[str, str] | None = None
    form: str = HERMES.name
    marker_id: int | None = None

    def grammar(self) -> Grammar:
        """Return the grammar."""
        return Grammar(GrammarKind.TOOLS, json.dumps(asdict(self), allow_nan=False))

    @classmethod
    def of(cls, grammar: Grammar) -> ToolRules:
        """Return the rules of a grammar of the kind `TOOLS`."""
        fields: dict[str, Any] = json.loads(grammar.source)
        return cls(**fields | {"functions": tuple(Function(**one) for one in fields["functions"])})
