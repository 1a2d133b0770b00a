"""The messages of a chat, with calls of tools and their results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from api.schemas.ignored import IGNORED
from api.schemas.messages import MessageFields, SentBack, prompt_message, with_reasoning
from api.schemas.strict import FIRST_ERROR
from common.jobs.prompts import Message as PromptMessage

Nothing = Annotated[list[Any], Field(max_length=0)]


class OllamaCalledFunction(SentBack):
    """The called function."""

    name: str = Field(min_length=1)
    arguments: dict[str, Any] = Field(default_factory=dict)
    index: Annotated[int | None, IGNORED] = None


class OllamaToolCall(SentBack):
    """A call of a tool in an earlier answer. Older clients leave its id out."""

    id: str | None = Field(None, min_length=1)
    type: Literal["function"] = "function"
    function: OllamaCalledFunction


class OllamaMessage(MessageFields):
    """A message of a chat. An answer may be sent back unchanged."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str = Field("", description="a string")
    images: Nothing = Field(default_factory=list, description="missing or empty: only text is supported")
    tool_calls: Annotated[list[OllamaToolCall], FIRST_ERROR] = Field(default_factory=list)
    tool_name: str | None = Field(None, min_length=1, description="of a result: the name of the called function")
    tool_call_id: str | None = Field(None, min_length=1)
    thinking: str | None = Field(None, description="the reasoning of an answer, for templates that show it")

    @model_validator(mode="after")
    def _fits_its_role(self) -> OllamaMessage:
        if self.role != "assistant" and self.tool_calls:
            raise ValueError("must have the role assistant to have tool_calls")
        return self


def in_prompt_form(messages: Sequence[OllamaMessage]) -> list[PromptMessage]:
    """Return the messages for the prompt, in which every call has an id and every result that of its call."""
    calls = _Calls()
    return [_written(message, calls) for message in messages]


def _written(message: OllamaMessage, calls: _Calls) -> PromptMessage:
    if message.role == "tool":
        named = {} if message.tool_name is None else {"name": message.tool_name}
        return {"role": "tool", "content": message.content, "tool_call_id": calls.id_for(message)} | named
    written = [calls.opened(call) for call in message.tool_calls]
    said = with_reasoning(prompt_message(message, message.role), message.thinking)
    return said | ({"tool_calls": written} if written else {})


class _Calls:
    """The calls so far that have no result yet: names by ids, oldest first."""

    def __init__(self) -> None:
        self._open: dict[str, str] = {}
        self._count = 0

    def opened(self, call: OllamaToolCall) -> dict[str, Any]:
        """Return the call for the prompt, from now on open."""
        call_id = call.id or self._new_id()
        self._open[call_id] = call.function.name
        function = {"name": call.function.name, "arguments": call.function.arguments}
        return {"id": call_id, "type": "function", "function": function}

    def id_for(self, result: OllamaMessage) -> str:
        """Return the id of the result's call: the one that it names, else the oldest, of that function if named."""
        wanted = (one for one, name in self._open.items() if result.tool_name in (name, None))
        call_id = result.tool_call_id or next(wanted, None) or self._new_id()
        self._open.pop(call_id, None)
        return call_id

    def _new_id(self) -> str:
        self._count += 1
        return f"call_{self._count}"
