"""The forms of a prompt, and the wire form of each between API and worker."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

# role, content; maybe name; of an assistant also reasoning_content, and tool_calls (in OpenAI's form, the arguments as
# an object if they are one); of a tool also tool_call_id
Message = dict[str, Any]


class Ending(StrEnum):
    """How a rendered conversation ends."""

    NEW_TURN = "new_turn"  # with the header of the assistant's next message
    CONTINUE = "continue"  # within the last message, which the answer continues
    CLOSED = "closed"  # after the last message, without a header


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages for the model's chat template; `tools` are those that the answer may call, in OpenAI's form.

    `variables` are more variables for the template, such as `enable_thinking`.
    """

    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...] = ()
    ending: Ending = Ending.NEW_TURN
    variables: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RawText:
    """A text for the model without a template; special tokens written in it are plain text.

    With a `suffix`, the answer is what belongs between the two. `is_bare`: without the tokens that the tokenizer adds
    around a text; not together with a suffix.
    """

    text: str
    suffix: str = ""
    is_bare: bool = False


@dataclass(frozen=True, slots=True)
class TokenIds:
    """Tokens for the model, used unchanged."""

    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Cut:
    """How much of a prompt the model sees: its last `num_tokens` tokens, or its first if `keeps_begin`."""

    num_tokens: int
    keeps_begin: bool = False

    def of(self, token_ids: Sequence[int]) -> list[int]:
        """Return the tokens that are kept."""
        return list(token_ids[: self.num_tokens] if self.keeps_begin else token_ids[-self.num_tokens :])


Prompt = str | Conversation | RawText | TokenIds  # a plain string is an instruction: a conversation with one message


def to_wire(prompt: Prompt) -> dict[str, Any]:
    """Return the JSON form, whose first key is named after the prompt's form; `from_wire` reads it back."""
    match prompt:
        case Conversation(messages, tools, ending, variables):
            more = {"tools": list(tools), "ending": ending.value, "variables": dict(variables)}
            usual = {"tools": [], "ending": Ending.NEW_TURN.value, "variables": {}}
            return {"messages": list(messages)} | {name: one for name, one in more.items() if one != usual[name]}
        case RawText(text, suffix, is_bare):
            return {"raw_text": text} | ({"suffix": suffix} if suffix else {}) | ({"bare": True} if is_bare else {})
        case TokenIds(ids):
            return {"token_ids": list(ids)}
        case instruction:
            return {"prompt": instruction}


def from_wire(wire: Mapping[str, Any]) -> Prompt:
    """Read the prompt from a larger JSON object. Raises `KeyError` if it has none."""
    if "messages" in wire:
        ending = Ending(wire.get("ending", Ending.NEW_TURN))
        return Conversation(tuple(wire["messages"]), tuple(wire.get("tools", ())), ending, wire.get("variables", {}))
    if "raw_text" in wire:
        return RawText(wire["raw_text"], wire.get("suffix", ""), wire.get("bare", False))
    if "token_ids" in wire:
        return TokenIds(tuple(wire["token_ids"]))
    return str(wire["prompt"])


def is_in(wire: Mapping[str, Any]) -> bool:
    """Return whether a larger JSON object has a prompt."""
    return not wire.keys().isdisjoint(("messages", "raw_text", "token_ids", "prompt"))


def length(prompt: Prompt) -> int:
    """Return the length of the prompt in characters or tokens, as the client sent it."""
    match prompt:
        case Conversation(messages, tools):
            calls = [message["tool_calls"] for message in messages if "tool_calls" in message]
            texts = sum(len(message["content"]) + len(message.get("reasoning_content", "")) for message in messages)
            return texts + sum(map(_json_length, [*calls, *tools]))
        case RawText(text, suffix):
            return len(text) + len(suffix)
        case TokenIds(ids):
            return len(ids)
        case instruction:
            return len(instruction)


def text(prompt: Prompt) -> str:
    """Return what people wrote in a prompt, to search in it; of token ids nothing."""
    match prompt:
        case Conversation(messages):
            return "\n".join(message["content"] for message in messages)
        case RawText(written, suffix):
            return f"{written}\n{suffix}"
        case TokenIds():
            return ""
        case instruction:
            return instruction


def as_sent(prompt: Prompt) -> str | list[Message] | list[int]:
    """Return the value that the client sent."""
    value, *_ = to_wire(prompt).values()
    return value  # type: ignore[no-any-return]


def _json_length(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False))
