"""The messages of a conversation in request bodies."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from api.schemas.ignored import IGNORED
from api.schemas.shown import shown
from api.schemas.strict import FIRST_ERROR, Strict
from common.jobs.prompts import Conversation, Ending
from common.jobs.prompts import Message as PromptMessage

MAX_MESSAGES = 4096
ROLE = r"^[A-Za-z][A-Za-z0-9_-]{0,63}$"  # no text that could spell one of the model's special tokens
OWN_FIELD = r"[A-Za-z_][A-Za-z0-9_-]{0,63}"  # can be named in a header
# Fields of other APIs with content that the model would have to see.
OTHER_CONTENT = frozenset(
    (
        "attachments",
        "audio",
        "contents",
        "documents",
        "file",
        "files",
        "image",
        "images",
        "input",
        "parts",
        "text",
        "tool_results",
        "video",
        "videos",
    )
)

_ROLES = {"developer": "system"}  # OpenAI's newer name for it


class TextPart(Strict):
    """A part of a message's content. A part of an earlier response may be sent back unchanged."""

    type: Literal["text", "input_text", "output_text"]
    text: str
    annotations: list[Any] = Field(default_factory=list)
    logprobs: list[Any] = Field(default_factory=list)
    cache_control: dict[str, Any] = Field(default_factory=dict)


def _text_of(content: Any) -> Any:
    """Join a list of text parts to one text, one part per line."""
    if not isinstance(content, list):
        return content
    if not content:
        raise ValueError("must not be an empty list")
    return "\n".join(_text_of_part(part) for part in content)


def _text_of_part(part: Any) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind not in ("text", "input_text", "output_text"):
        raise ValueError(f"has a part of type {kind!r}; only text is supported")
    try:
        return TextPart.model_validate({name: value for name, value in part.items() if value is not None}).text
    except ValidationError as err:
        raise ValueError(f"has a text part with a wrong or missing {err.errors()[0]['loc'][0]}") from err


Content = Annotated[
    str, BeforeValidator(_text_of, json_schema_input_type=str | Annotated[list[TextPart], Field(min_length=1)])
]


class SentBack(Strict):
    """An object whose fields may be null, because clients send earlier answers back unchanged."""

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, fields: Any) -> Any:
        return {name: value for name, value in fields.items() if value is not None} if _is_object(fields) else fields


class MessageFields(SentBack):
    """The fields of all messages but the role. The ignored ones are of answers that clients send back."""

    type: Literal["message"] = "message"
    content: Content = Field(description="a string or a list of text parts")
    name: str | None = Field(
        None,
        min_length=1,
        max_length=64,
        description="a name of 1 to 64 characters: the speaker's, for templates that show it",
    )
    id: Annotated[str | None, IGNORED] = None
    annotations: Annotated[list[Any] | None, IGNORED] = None
    reasoning_content: str | None = Field(None, description="the reasoning of an answer, for templates that show it")
    reasoning: str | None = Field(None, description="vLLM's and OpenRouter's name for `reasoning_content`")
    reasoning_details: Annotated[list[Any] | None, IGNORED] = None
    thinking_blocks: Annotated[list[Any] | None, IGNORED] = None  # LiteLLM's
    provider_specific_fields: Annotated[dict[str, Any] | None, IGNORED] = None  # LiteLLM's
    cache_control: Annotated[dict[str, Any] | None, IGNORED] = None
    parsed: Annotated[Any, IGNORED] = None  # the content as OpenAI's package reads it
    metadata: Annotated[dict[str, Any] | None, IGNORED] = None
    timestamp: Annotated[float | str | None, IGNORED] = None
    created_at: Annotated[float | str | None, IGNORED] = None


class CalledFunction(SentBack):
    """The call of a function in an earlier answer; `arguments` is a JSON text."""

    name: str = Field(min_length=1)
    arguments: str

    def to_prompt(self, call_id: str) -> dict[str, Any]:
        """Return the call for the prompt."""
        function = {"name": self.name, "arguments": arguments_of(self.arguments)}
        return {"id": call_id, "type": "function", "function": function}


class ToolCall(SentBack):
    """A call of a tool in an earlier answer."""

    id: str = Field(min_length=1)
    type: Literal["function"] = "function"
    function: CalledFunction
    index: Annotated[int | None, IGNORED] = None  # of a chunk


def _describe_own_fields(schema: dict[str, Any]) -> None:
    """Add the rules for unknown fields, see `Message`, to its JSON schema."""
    schema["propertyNames"] = {"pattern": f"^{OWN_FIELD}$"}
    schema["properties"] |= {name: {"type": "null"} for name in sorted(OTHER_CONTENT)}


class Message(MessageFields):
    """One message of a chat: also answers with calls of tools, and their results.

    Clients add fields of their own to what they send back, so unknown ones are ignored (and named), unless they could
    be content. The chat template decides which roles there are.
    """

    model_config = ConfigDict(extra="allow", json_schema_extra=_describe_own_fields)

    role: Annotated[str, Field(pattern=ROLE)] = Field(
        description="system, developer, user, assistant, tool, function, or another role that the chat template has"
    )
    tool_calls: Annotated[list[ToolCall], FIRST_ERROR] = Field(default_factory=list)
    tool_call_id: str | None = Field(None, min_length=1)
    function_call: CalledFunction | None = None

    @model_validator(mode="before")
    @classmethod
    def _has_no_other_content(cls, fields: Any) -> Any:
        for name in (one for one, value in fields.items() if value is not None) if _is_object(fields) else ():
            if name not in cls.model_fields and (name in OTHER_CONTENT or not re.fullmatch(OWN_FIELD, name)):
                raise ValueError(f"has {shown(name)}, which is not supported")
        return fields

    @model_validator(mode="before")
    @classmethod
    def _calls_need_no_content(cls, fields: Any) -> Any:
        has_calls = _is_object(fields) and bool(fields.get("tool_calls") or fields.get("function_call"))
        return fields | {"content": ""} if has_calls and fields.get("content") is None else fields

    @model_validator(mode="after")
    def _fits_its_role(self) -> Message:
        if self.role != "assistant" and (self.tool_calls or self.function_call is not None):
            raise ValueError("must have the role assistant to have tool_calls or function_call")
        needed = {"tool": "tool_call_id", "function": "name"}.get(self.role)
        if needed is not None and getattr(self, needed) is None:
            raise ValueError(f"must have {needed}, because its role is {self.role!r}")
        return self

    def to_prompt(self) -> PromptMessage:
        """Return the message for the prompt. A function's result belongs to the call before it."""
        if self.role in ("tool", "function"):
            call_id = {"tool_call_id": self.tool_call_id or FUNCTION_CALL}
            return {"role": "tool", "content": self.content} | call_id | _name(self.name)
        calls = [call.function.to_prompt(call.id) for call in self.tool_calls]
        calls += [] if self.function_call is None else [self.function_call.to_prompt(FUNCTION_CALL)]
        return prompt_message(self, self.role) | ({"tool_calls": calls} if calls else {})


FUNCTION_CALL = "function_call"  # stands for the id of a call in the older form, which has none


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def arguments_of(text: str) -> Any:
    """Return the object in a JSON text, for templates that write it; the text if it is not a JSON object."""
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, dict) else text


def conversation(
    messages: Sequence[Message],
    ending: Ending = Ending.NEW_TURN,
    tools: Sequence[dict[str, Any]] = (),
    variables: Mapping[str, Any] | None = None,
) -> Conversation:
    """Return the prompt with these messages, tools, and variables for the template."""
    return Conversation(tuple(message.to_prompt() for message in messages), tuple(tools), ending, variables or {})


def prompt_message(message: MessageFields, role: str) -> PromptMessage:
    """Return the message for the prompt."""
    written = {"role": _ROLES.get(role, role), "content": message.content} | _name(message.name)
    return with_reasoning(written, message.reasoning_content or message.reasoning)


def with_reasoning(message: PromptMessage, reasoning: str | None) -> PromptMessage:
    """Return the message with the reasoning before it, if it is an answer."""
    return message | {"reasoning_content": reasoning} if reasoning and message["role"] == "assistant" else message


def _name(name: str | None) -> dict[str, str]:
    return {} if name is None else {"name": name}
