"""What a generation goes on from: the forms that a client may give, and how each travels to the worker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Message = dict[str, str]  # role, content


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages that the model's chat template puts together; the assistant's turn is next."""

    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class RawText:
    """A text that the model sees as it is, without a template; special tokens written in it are text."""

    text: str


@dataclass(frozen=True, slots=True)
class TokenIds:
    """Tokens that the model sees as they are."""

    ids: tuple[int, ...]


Prompt = str | Conversation | RawText | TokenIds  # a plain string is an instruction: a conversation's only message


def to_wire(prompt: Prompt) -> dict[str, Any]:
    """The JSON form, one key named for the prompt's form; `from_wire` reads it back."""
    match prompt:
        case Conversation(messages):
            return {"messages": list(messages)}
        case RawText(text):
            return {"raw_text": text}
        case TokenIds(ids):
            return {"token_ids": list(ids)}
        case instruction:
            return {"prompt": instruction}


def from_wire(wire: Mapping[str, Any]) -> Prompt:
    """Read the JSON form out of a larger object. Raises `KeyError` when there is none in it."""
    if "messages" in wire:
        return Conversation(tuple(wire["messages"]))
    if "raw_text" in wire:
        return RawText(wire["raw_text"])
    if "token_ids" in wire:
        return TokenIds(tuple(wire["token_ids"]))
    return str(wire["prompt"])


def is_in(wire: Mapping[str, Any]) -> bool:
    """Whether there is a prompt in a larger object."""
    return not wire.keys().isdisjoint(("messages", "raw_text", "token_ids", "prompt"))


def length(prompt: Prompt) -> int:
    """How much the client sent: characters, or tokens."""
    match prompt:
        case Conversation(messages):
            return sum(len(message["content"]) for message in messages)
        case RawText(text):
            return len(text)
        case TokenIds(ids):
            return len(ids)
        case instruction:
            return len(instruction)


def as_sent(prompt: Prompt) -> str | list[Message] | list[int]:
    """The bare value that the client sent."""
    (value,) = to_wire(prompt).values()
    return value  # type: ignore[no-any-return]
