"""What a dataset consists of, whatever format it was written in."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Message:
    """One message. `is_learned` says whether the loss counts its tokens; only an assistant's can be."""

    role: Role
    content: str
    is_learned: bool = False

    def to_dict(self) -> dict[str, str]:
        """Return the message as chat templates take it."""
        return {"role": self.role, "content": self.content}


@dataclass(frozen=True, slots=True)
class Conversation:
    """An example to imitate: the last message is the assistant's, and at least one of its messages is learned."""

    messages: tuple[Message, ...]

    @property
    def prompt(self) -> tuple[Message, ...]:
        """The messages before the last one."""
        return self.messages[:-1]

    @property
    def response(self) -> str:
        """The text of the last message."""
        return self.messages[-1].content


@dataclass(frozen=True, slots=True)
class Preference:
    """Two responses to one prompt, of which the first is better."""

    prompt: tuple[Message, ...]
    chosen: str
    rejected: str

    @property
    def response(self) -> str:
        """The better response."""
        return self.chosen


Example = Conversation | Preference


@dataclass(frozen=True, slots=True)
class Dataset:
    """Examples of one kind. `lines` has the number of the line in which each begins, from 1."""

    format: str
    examples: tuple[Example, ...]
    lines: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def is_preference(self) -> bool:
        """Whether the examples are preference pairs."""
        return bool(self.examples) and isinstance(self.examples[0], Preference)

    def only(self, indices: Iterable[int]) -> Dataset:
        """Return the dataset of the examples with these indices, in their order here."""
        kept = sorted(indices)
        examples, lines = [self.examples[one] for one in kept], [self.lines[one] for one in kept]
        return Dataset(self.format, tuple(examples), tuple(lines))


def pair(prompt: str, response: str) -> Conversation:
    """Return the conversation of one question and its answer."""
    return Conversation((Message("user", prompt), Message("assistant", response, is_learned=True)))
