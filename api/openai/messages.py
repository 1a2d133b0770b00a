"""Messages of a conversation, as clients write them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from api.strict import Strict
from common.prompts import Conversation

MAX_MESSAGES = 4096

_ROLES = {"developer": "system"}  # OpenAI's newer name for it


class TextPart(BaseModel):
    """A part of a message's content, as the API's reference shows it."""

    type: Literal["text", "input_text", "output_text"]
    text: str


def _text_of(content: Any) -> Any:
    """A list of text parts as one text, a part a line."""
    if not isinstance(content, list):
        return content
    if not content:
        raise ValueError("must not be an empty list")
    return "\n".join(_text_of_part(part) for part in content)


def _text_of_part(part: Any) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind not in ("text", "input_text", "output_text"):
        raise ValueError(f"has a part of type {kind!r}; only text is supported")
    if not isinstance(part.get("text"), str):
        raise ValueError("has a text part without a text")
    return str(part["text"])


Content = Annotated[str, BeforeValidator(_text_of, json_schema_input_type=str | list[TextPart])]


class Message(Strict):
    """One message. What the client sends back of an earlier answer may hold fields that are null."""

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: Content = Field(description="a string or a list of text parts")

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, fields: Any) -> Any:
        return {name: value for name, value in fields.items() if value is not None} if _is_object(fields) else fields


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def conversation(messages: Sequence[Message]) -> Conversation:
    """The prompt that they are."""
    return Conversation(tuple({"role": _ROLES.get(one.role, one.role), "content": one.content} for one in messages))
