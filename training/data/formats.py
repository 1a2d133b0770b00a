"""The formats of examples: which fields each has, and how they are read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, cast

from training.data.chat import messages_of, only_answer, prompt_of
from training.data.examples import Conversation, Example, Message, Preference, pair
from training.data.faults import Misfit, gather
from training.data.values import NOTES, expect_known, field, text, text_at

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
        _, example = gather(lambda: expect_known(fields, self.known | NOTES), lambda: self.read(fields))
        return cast(Example, example)


def _instruction(fields: Fields) -> Conversation:
    return pair(*gather(lambda: text_at(fields, "instruction"), lambda: text_at(fields, "response")))


def _alpaca(fields: Fields) -> Conversation:
    instruction, extra, output = gather(
        lambda: text_at(fields, "instruction"),
        lambda: text(fields.get("input", ""), "input", may_be_empty=True),
        lambda: text_at(fields, "output"),
    )
    return pair(f"{instruction}\n\n{extra}" if extra.strip() else instruction, output)


def _prompt_completion(fields: Fields) -> Conversation:
    prompt, answer = _prompt_and_answers(fields, "completion")
    return Conversation((*prompt, Message("assistant", answer, is_learned=True)))


def _chat(fields: Fields) -> Conversation:
    return Conversation(messages_of(field(fields, "messages"), "messages"))


def _preference(fields: Fields) -> Preference:
    prompt, chosen, rejected = _prompt_and_answers(fields, "chosen", "rejected")
    return _compared(prompt, chosen, rejected, "rejected")


def _prompt_and_answers(fields: Fields, *names: str) -> Any:
    return gather(partial(_prompt, fields), *(partial(_answer, fields, name) for name in names))


def _prompt(fields: Fields) -> Any:
    return prompt_of(field(fields, "prompt"), "prompt")


def _answer(fields: Fields, name: str) -> Any:
    return only_answer(field(fields, name), name)


def _openai_preference(fields: Fields) -> Preference:
    better, worse = "preferred_output", "non_preferred_output"
    prompt, chosen, rejected = gather(
        partial(_input, fields), partial(_answer, fields, better), partial(_answer, fields, worse)
    )
    return _compared(prompt, chosen, rejected, worse)


def _input(fields: Fields) -> Any:
    value = field(fields, "input")
    if not isinstance(value, dict):
        raise Misfit('must be an object like {"messages": [...]}', "input")
    _, prompt = gather(
        lambda: expect_known(value, frozenset({"messages"}), "input"),
        lambda: prompt_of(field(value, "messages", "input"), "input", "messages"),
    )
    return prompt


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
    return _complete_format(tuple(fields))


@lru_cache(64)  # nearly all examples of a file have the same fields
def _complete_format(names: tuple[str, ...]) -> Format | None:
    complete = [one for one in FORMATS if all(name in names for name in one.required)]
    return complete[0] if len(complete) == 1 else None


def closest_format(fields: Fields) -> Format | None:
    """Return the format that shares most fields with these; None if none shares any."""
    shared = {one.name: sum(name in fields for name in one.required) - len(one.required) / 8 for one in FORMATS}
    best = max(FORMATS, key=lambda one: shared[one.name])
    return best if best.known & fields.keys() else None
