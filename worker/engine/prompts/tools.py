"""Prompts with tools: the form of calls that a chat template knows, or our own if it knows none."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from itertools import groupby
from typing import Any

from jinja2 import TemplateError

from common.jobs.sampling import Grammar, GrammarKind
from common.jobs.tools import HERMES, LLAMA, MISTRAL, ToolForm, ToolRules
from models.text.chat_template import Message, Tool

RenderTools = Callable[[list[Message], Sequence[Tool]], str]

ID_CHARS = 9  # of a call's id: Mistral's templates refuse any other length
_FUNCTION, _DESCRIPTION, _ARGUMENT, _RESULT = "probe_7e1c", "does 7e1d", "city_7e1e", "found 7e1f"
_WRITTEN = {
    HERMES: '<tool_call>\n{"name": "probe_7e1c", "arguments": {',
    MISTRAL: '[TOOL_CALLS][{"name": "probe_7e1c", "arguments": {',
    LLAMA: '{"name": "probe_7e1c", "parameters": {',
}
_PREAMBLE = """\
# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{tools}
</tools>

For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:
<tool_call>
{{"name": <function-name>, "arguments": <args-json-object>}}
</tool_call>"""


def template_form(render: RenderTools) -> ToolForm | None:
    """Return the form in which the template renders calls; None if it does not show tools, calls and results.

    It is recognised in a rendered conversation, because templates are programs.
    """
    call = _call(_FUNCTION, {_ARGUMENT: "x"}, _call_id("probe"))
    result = {"role": "tool", "content": _RESULT, "tool_call_id": call["id"], "name": _FUNCTION}
    messages = [_user("Hello"), {"role": "assistant", "content": "", "tool_calls": [call]}, result]
    try:
        text = render(messages, [_PROBE_TOOL])
    except TemplateError:
        return None
    if not all(shown in text for shown in (_DESCRIPTION, _ARGUMENT, _RESULT)):
        return None
    dense = "".join(text.split())
    return next((form for form, written in _WRITTEN.items() if "".join(written.split()) in dense), None)


def accepts_system(render: RenderTools) -> bool:
    """Return whether the template renders a system message."""
    try:
        return _RESULT in render([{"role": "system", "content": _RESULT}, _user("Hello")], [])
    except TemplateError:
        return False


def in_template_form(messages: Sequence[Message]) -> list[Message]:
    """Return the messages for a template that renders calls, with short ids and with the name of each result's call."""
    names: dict[str, str] = {}
    return [_with_ids(message, names) for message in messages]


def in_preamble_form(messages: Sequence[Message], tools: Sequence[Tool], *, has_system: bool) -> list[Message]:
    """Return the messages for a template that does not render calls.

    The tools are described in the system message (in the first user message if not `has_system`), calls are a part of
    the assistant's text, and consecutive results are one message of the user.
    """
    written: list[Message] = []
    for role, group in groupby(messages, lambda one: one["role"]):
        same = list(group)
        written += [_results(same)] if role == "tool" else map(_with_calls_as_text, same)
    return _with_preamble(written, tools, has_system=has_system) if tools else written


def in_form(grammar: Grammar, form: ToolForm, marker_id: int | None) -> Grammar:
    """Return the grammar with the form of the model's calls, if it is one of tools."""
    if grammar.kind is not GrammarKind.TOOLS:
        return grammar
    return replace(ToolRules.of(grammar), form=form.name, marker_id=marker_id).grammar()


def _call(name: str, arguments: Any, call_id: str) -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def _user(text: str) -> Message:
    return {"role": "user", "content": text}


_PROBE_TOOL = {
    "type": "function",
    "function": {
        "name": _FUNCTION,
        "description": _DESCRIPTION,
        "parameters": {"type": "object", "properties": {_ARGUMENT: {"type": "string"}}, "required": [_ARGUMENT]},
    },
}


def _call_id(given: str) -> str:
    return sha256(given.encode("utf-8", "surrogatepass")).hexdigest()[:ID_CHARS]


def _with_ids(message: Message, names: dict[str, str]) -> Message:
    """Return the message with short ids; `names` are those of the calls so far, by their ids."""
    if calls := message.get("tool_calls"):
        names |= {call["id"]: call["function"]["name"] for call in calls}
        return message | {"tool_calls": [call | {"id": _call_id(call["id"])} for call in calls]}
    if (call_id := message.get("tool_call_id")) is not None:
        return {"name": names.get(call_id, "")} | message | {"tool_call_id": _call_id(call_id)}
    return message


def _with_calls_as_text(message: Message) -> Message:
    parts = [message["content"]] if message["content"] else []
    parts += [_call_text(call["function"]) for call in message.get("tool_calls", ())]
    return {name: value for name, value in message.items() if name != "tool_calls"} | {"content": "\n".join(parts)}


def _call_text(function: Mapping[str, Any]) -> str:
    arguments = function["arguments"]
    text = arguments if isinstance(arguments, str) else _json(arguments)
    return f"<tool_call>\n{HERMES.call_beginning(function['name'])}{text}}}\n</tool_call>"


def _results(messages: Sequence[Message]) -> Message:
    return _user("\n".join(f"<tool_response>\n{one['content']}\n</tool_response>" for one in messages))


def _with_preamble(messages: list[Message], tools: Sequence[Tool], *, has_system: bool) -> list[Message]:
    preamble = _PREAMBLE.format(tools="\n".join(map(_json, tools)))
    role = "system" if has_system else "user"
    first = next((index for index, one in enumerate(messages) if one["role"] == role), None)
    if first is None:
        return [{"role": role, "content": preamble}, *messages]
    parts = [messages[first]["content"], preamble] if has_system else [preamble, messages[first]["content"]]
    joined = {"role": role, "content": "\n\n".join(parts)}
    return [*messages[:first], joined, *messages[first + 1 :]]


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
