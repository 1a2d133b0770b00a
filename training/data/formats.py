"""The formats of examples: which fields each has, and how they are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from training.data.chat import messages_of, only_answer, prompt_of
from training.data.examples import Conversation, Example, Message, Preference, pair
from training.data.faults import Misfit
from training.data.values import expect_fields, text_at

NOTES = frozenset({"id", "metadata"})  # fields that every format may have and no model sees

Fields = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Format:
    """A format: its name, the fields it must and may have, and how an example is read from them."""

    name: str
    required: tuple[str, ...]
    optional: frozenset[str]
    read: Callable[[Fields], Example]

    @property
    def known(self) -> frozenset[str]:
        """All fields that a record of this format may have."""
        return self.optional.union(self.required)

    def example_of(self, fields: Fields) -> Example:
        """Read a record. Raises `Misfit`."""
        expect_fields(fields, self.required, self.known | NOTES)
        return self.read(fields)


def _instruction(fields: Fields) -> Conversation:
    return pair(text_at(fields, "instruction"), text_at(fields, "response"))


def _alpaca(fields: Fields) -> Conversation:
    instruction, extra = text_at(fields, "instruction"), text_at(fields, "input", may_be_empty=True, default="")
    return pair(f"{instruction}\n\n{extra}" if extra.strip() else instruction, text_at(fields, "output"))


def _prompt_completion(fields: Fields) -> Conversation:
    prompt = prompt_of(fields["prompt"], "prompt")
    answer = Message("assistant", only_answer(fields["completion"], "completion"), is_learned=True)
    return Conversation((*prompt, answer))


def _chat(fields: Fields) -> Conversation:
    return Conversation(messages_of(fields["messages"], "messages"))


def _preference(fields: Fields) -> Preference:
    return _compared(
        prompt_of(fields["prompt"], "prompt"),
        only_answer(fields["chosen"], "chosen"),
        only_answer(fields["rejected"], "rejected"),
        "rejected",
    )


def _openai_preference(fields: Fields) -> Preference:
    source = fields["input"]
    if not isinstance(source, dict):
        raise Misfit('must be an object like {"messages": [...]}', "input")
    try:
        expect_fields(source, ("messages",), frozenset({"messages"}))
    except Misfit as err:
        raise err.inside("input") from err
    return _compared(
        prompt_of(source["messages"], "input", "messages"),
        only_answer(fields["preferred_output"], "preferred_output"),
        only_answer(fields["non_preferred_output"], "non_preferred_output"),
        "non_preferred_output",
    )


def _compared(prompt: tuple[Message, ...], chosen: str, rejected: str, field: str) -> Preference:
    if chosen == rejected:
        raise Misfit("is the same as the better response; a pair needs two different ones", field)
    return Preference(prompt, chosen, rejected)


def _format(name: str, required: str, read: Callable[[Fields], Example], *optional: str) -> Format:
    return Format(name, tuple(required.split()), frozenset(optional), read)


FORMATS = (
    _format("chat", "messages", _chat),
    _format("instruction", "instruction response", _instruction),
    _format("alpaca", "instruction output", _alpaca, "input"),
    _format("prompt_completion", "prompt completion", _prompt_completion),
    _format("preference", "prompt chosen rejected", _preference),
    _format("openai_preference", "input preferred_output non_preferred_output", _openai_preference),
)
BY_NAME = {one.name: one for one in FORMATS}


def complete_format(fields: Fields) -> Format | None:
    """Return the format with all of its required fields present; None if there is none or more than one."""
    complete = [one for one in FORMATS if all(name in fields for name in one.required)]
    return complete[0] if len(complete) == 1 else None


def closest_format(fields: Fields) -> Format | None:
    """Return the format that shares most fields with these; None if none shares any."""
    shared = {one.name: sum(name in fields for name in one.required) - len(one.required) / 8 for one in FORMATS}
    best = max(FORMATS, key=lambda one: shared[one.name])
    return best if best.known & fields.keys() else None
