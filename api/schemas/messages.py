"""The messages of a conversation in request bodies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from api.schemas.ignored import IGNORED
from api.schemas.strict import Strict
from common.jobs.prompts import Conversation, Ending

MAX_MESSAGES = 4096

_ROLES = {"developer": "system"}  # OpenAI's newer name for it


class TextPart(Strict):
    """A part of a message's content. A part of an earlier response may be sent back unchanged."""

    type: Literal["text", "input_text", "output_text"]
    text: str
    annotations: list[Any] = Field(default_factory=list)
    logprobs: list[Any] = Field(default_factory=list)


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


class Message(Strict):
    """One message. Fields may be null, because clients send earlier responses back unchanged.

    The last fields are those of an answer, of this server or of another, that is sent back.
    """

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: Content = Field(description="a string or a list of text parts")
    name: str | None = Field(
        None, min_length=1, max_length=64, description="the speaker's name, for templates that show it"
    )
    id: Annotated[str | None, IGNORED] = None
    annotations: Annotated[list[Any] | None, IGNORED] = None
    reasoning_content: Annotated[str | None, IGNORED] = None

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, fields: Any) -> Any:
        return {name: value for name, value in fields.items() if value is not None} if _is_object(fields) else fields


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def conversation(messages: Sequence[Message], ending: Ending = Ending.NEW_TURN) -> Conversation:
    """Return the prompt with these messages."""
    return Conversation(tuple(map(_as_prompt, messages)), ending=ending)


def _as_prompt(message: Message) -> dict[str, str]:
    name = {} if message.name is None else {"name": message.name}
    return {"role": _ROLES.get(message.role, message.role), "content": message.content} | name
