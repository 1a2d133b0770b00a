"""The forms of a prompt, and the wire form of each between API and worker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

Message = dict[str, str]  # role, content; perhaps name


class Ending(StrEnum):
    """How a rendered conversation ends."""

    NEW_TURN = "new_turn"  # with the header of the assistant's next message
    CONTINUE = "continue"  # within the last message, which the answer continues
    CLOSED = "closed"  # after the last message, without a header


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages that the model's chat template combines."""

    messages: tuple[Message, ...]
    ending: Ending = Ending.NEW_TURN


@dataclass(frozen=True, slots=True)
class RawText:
    """A text for the model without a template; special tokens written in it are plain text."""

    text: str


@dataclass(frozen=True, slots=True)
class TokenIds:
    """Tokens for the model, used unchanged."""

    ids: tuple[int, ...]


Prompt = str | Conversation | RawText | TokenIds  # a plain string is an instruction: a conversation with one message


def to_wire(prompt: Prompt) -> dict[str, Any]:
    """Return the JSON form, whose first key is named after the prompt's form; `from_wire` reads it back."""
    match prompt:
        case Conversation(messages, ending=ending):
            return {"messages": list(messages)} | ({} if ending is Ending.NEW_TURN else {"ending": ending.value})
        case RawText(text):
            return {"raw_text": text}
        case TokenIds(ids):
            return {"token_ids": list(ids)}
        case instruction:
            return {"prompt": instruction}


def from_wire(wire: Mapping[str, Any]) -> Prompt:
    """Read the prompt from a larger JSON object. Raises `KeyError` if it has none."""
    if "messages" in wire:
        return Conversation(tuple(wire["messages"]), ending=Ending(wire.get("ending", Ending.NEW_TURN)))
    if "raw_text" in wire:
        return RawText(wire["raw_text"])
    if "token_ids" in wire:
        return TokenIds(tuple(wire["token_ids"]))
    return str(wire["prompt"])


def is_in(wire: Mapping[str, Any]) -> bool:
    """Return whether a larger JSON object has a prompt."""
    return not wire.keys().isdisjoint(("messages", "raw_text", "token_ids", "prompt"))


def length(prompt: Prompt) -> int:
    """Return the length of the prompt in characters or tokens, as the client sent it."""
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
    """Return the value that the client sent."""
    value, *_ = to_wire(prompt).values()
    return value  # type: ignore[no-any-return]
