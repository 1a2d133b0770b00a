"""The assistant's next message of a chat, perhaps with calls of tools."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool: run the function, and send its result as a message of the role "tool"."""

    id: str
    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ChatAnswer:
    """An answer. `message` is to be sent back in the next request; `finish_reason` "tool_calls" says that it calls.

    `reasoning` is what the model has written before; None if there is none.
    """

    job_id: str
    text: str
    tool_calls: Sequence[ToolCall]
    finish_reason: str
    message: Mapping[str, Any]
    prompt_tokens: int
    completion_tokens: int
    reasoning: str | None = None

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> ChatAnswer:
        """Read the JSON of a chat completion. Raises `KeyError` if a field is missing."""
        [choice] = body["choices"]
        message = choice["message"]
        calls = message.get("tool_calls") or ()
        return cls(
            job_id=body["id"].removeprefix("chatcmpl-"),
            text=message["content"] or "",
            tool_calls=[_call(one["id"], one["function"]) for one in calls],
            finish_reason=choice["finish_reason"],
            message=message,
            prompt_tokens=body["usage"]["prompt_tokens"],
            completion_tokens=body["usage"]["completion_tokens"],
            reasoning=message.get("reasoning"),
        )


def _call(call_id: str, function: Mapping[str, str]) -> ToolCall:
    return ToolCall(call_id, function["name"], json.loads(function["arguments"]))
