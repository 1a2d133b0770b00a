"""Writes the grammar of answers that may call tools in llguidance's language.

Free text ends at the marker of calls; from there on every token belongs to a call of a declared function, in exactly
the form of the model, with arguments that follow the function's schema.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from common.errors import InvalidRequest
from common.jobs.reasoning import Reasoning
from common.jobs.tools import FORMS, HERMES, LLAMA, MISTRAL, Function, ToolForm, ToolRules

# As Python's `json.dumps` writes it, which is what models have seen in training.
_JSON_OPTIONS = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
_COMBINED = ("$ref", "allOf", "anyOf", "oneOf")  # with these, closing an object could forbid properties that they allow


class _Layout(NamedTuple):
    """What is written after the marker, between two calls, and after the last one; in the library's language."""

    first: str
    between: str
    last: str


_LAYOUTS: Mapping[ToolForm, _Layout] = {
    HERMES: _Layout('"\\n"', '"\\n</tool_call>\\n<tool_call>\\n"', '"\\n</tool_call>"'),
    MISTRAL: _Layout('" "? "["', '", "', '"]"'),
    LLAMA: _Layout("", "", ""),
}


def tool_lark(rules: ToolRules, content: str | None, reasoning: Reasoning | None = None) -> str:
    """Return the grammar.

    Args:
        rules: the calls.
        content: the grammar of an answer without calls, if any.
        reasoning: what may come before, which is not a part of the grammar.

    Raises:
        InvalidRequest: the model's calls and the content cannot be told apart.
    """
    form = FORMS[rules.form]
    lines = [f"start: {_start(rules, form, content, reasoning)}", f"tool_calls: {_calls(rules, form)}"]
    for index, function in enumerate(rules.functions):
        lines.append(f'tool_call_{index}: {_literal(form.call_beginning(function.name))} tool_arguments_{index} "}}"')
        lines.append(f"tool_arguments_{index}: %json {json.dumps(_schema(function))}")
    return "\n".join(lines)


def _start(rules: ToolRules, form: ToolForm, content: str | None, reasoning: Reasoning | None) -> str:
    marker = "" if form.begins_answer else _marker(rules, form)
    if rules.must_call:
        return f"{marker} tool_calls"
    if content is not None and form.begins_answer:
        raise InvalidRequest(
            "response_format cannot be used together with tools with this model: its calls are JSON like the answer",
            param="response_format",
        )
    if content is not None:
        return f"tool_content | {marker} tool_calls\ntool_content: {content}"
    quoted, other = re.escape(form.marker), _no_reasoning(reasoning)
    if form.begins_answer:
        # the blanks after the reasoning do not belong to the text: a call after them would no longer begin the answer
        text = _ANY if reasoning is None else r"/(\S(?s:.*))?/"
        return f"TOOL_TEXT | tool_calls\nTOOL_TEXT: {text} & ~/{quoted}(?s:.*)/{other}"
    if rules.marker_id is not None:  # no text contains a special token
        return f"TOOL_TEXT? | TOOL_TEXT? {marker} tool_calls\nTOOL_TEXT: /(?s:.+)/{other}"
    return (
        f"TOOL_TEXT | tool_text_before tool_calls\nTOOL_TEXT: {_ANY} & ~/(?s:.*){quoted}(?s:.*)/{other}\n"
        f"tool_text_before[lazy]: /(?s:.*){quoted}/{other}"
    )


def _no_reasoning(reasoning: Reasoning | None) -> str:
    """Return what excludes texts that begin with the first tag of reasoning, because the reasoning has that."""
    if reasoning is None or reasoning.is_open or reasoning.begin_id is not None:
        return ""
    return f" & ~/\\s*{re.escape(reasoning.form.begin)}(?s:.*)/"


_ANY = "/(?s:.*)/"


def _marker(rules: ToolRules, form: ToolForm) -> str:
    return _literal(form.marker) if rules.marker_id is None else f"<[{rules.marker_id}]>"


def _calls(rules: ToolRules, form: ToolForm) -> str:
    layout = _LAYOUTS[form]
    call = " | ".join(f"tool_call_{index}" for index in range(len(rules.functions)))
    more = f"({layout.between} ({call})){{0,{rules.max_calls - 1}}}" if layout.between and rules.max_calls > 1 else ""
    return f"{layout.first} ({call}) {more} {layout.last}"


def _schema(function: Function) -> dict[str, Any]:
    """Return the schema of the arguments: an object, without properties that it does not name."""
    schema = {"type": "object", **function.parameters}
    if "properties" in schema and not any(name in schema for name in _COMBINED):
        schema.setdefault("additionalProperties", False)
    return schema | {"x-guidance": _JSON_OPTIONS | ({} if function.strict else {"lenient": True})}


def _literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
