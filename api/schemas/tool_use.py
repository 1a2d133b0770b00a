"""Turns a request's tools into the prompt's tools and the grammar of the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from api.schemas.tools import FunctionDefinition, ToolChoice
from common.errors import InvalidRequest
from common.jobs.sampling import MAX_GRAMMAR_CHARS, Grammar
from common.jobs.tools import MAX_CALLS, Function, ToolRules


@dataclass(frozen=True, slots=True)
class ToolUse:
    """The tools of one request.

    Args:
        shown: those in the prompt, in OpenAI's form; none if the answer must not call any.
        grammar: of the answer; without tools, the one that the client asked for, if any.
        must_call: whether the answer has nothing but calls.
    """

    shown: tuple[dict[str, Any], ...]
    grammar: Grammar | None
    must_call: bool

    @property
    def can_call(self) -> bool:
        """Whether the answer may call tools."""
        return bool(self.shown)

    @property
    def no_stop(self) -> dict[str, Any]:
        """The sampling parameters that keep stop strings from ending a call."""
        return {"stop": ()} if self.must_call else {}


def tool_use(
    declared: Sequence[FunctionDefinition], choice: ToolChoice, content: Grammar | None, *, several: bool
) -> ToolUse:
    """Return the use of tools in one request.

    Args:
        declared: all its functions.
        choice: which of them the answer may or must call.
        content: the grammar of an answer without calls.
        several: whether the answer may have several calls.

    Raises:
        InvalidRequest: the functions are too large.
    """
    if not declared or choice.mode == "none":
        return ToolUse((), content, must_call=False)
    is_named = choice.mode == "required" and choice.names is not None and len(choice.names) == 1
    rules = ToolRules(
        functions=tuple(_function(one) for one in declared if choice.names is None or one.name in choice.names),
        must_call=choice.mode == "required",
        max_calls=MAX_CALLS if several and not is_named else 1,
        content=None if content is None else content.to_dict(),
    )
    grammar = rules.grammar()
    if len(grammar.source) > MAX_GRAMMAR_CHARS:
        raise InvalidRequest(f"tools must have at most {MAX_GRAMMAR_CHARS} characters of JSON schemas", param="tools")
    return ToolUse(tuple(one.for_prompt() for one in declared), grammar, rules.must_call)


def _function(one: FunctionDefinition) -> Function:
    return Function(one.name, one.schema_of_arguments, strict=bool(one.strict))
