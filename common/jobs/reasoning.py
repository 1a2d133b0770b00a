"""Reasoning: what a model writes between two tags before its answer, such as `<think>` and `</think>`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any


@dataclass(frozen=True, slots=True)
class ReasoningForm:
    """The tags around reasoning."""

    name: str
    begin: str
    end: str


THINK = ReasoningForm("think", "<think>", "</think>")
MISTRAL = ReasoningForm("mistral", "[THINK]", "[/THINK]")
FORMS: Mapping[str, ReasoningForm] = {form.name: form for form in (THINK, MISTRAL)}


@dataclass(frozen=True, slots=True)
class Reasoning:
    """The reasoning of one answer.

    Args:
        form: its tags.
        is_open: whether the prompt ends with the first tag, so that the answer begins inside. Otherwise the model
            writes the tag, or answers without reasoning.
        begin_id, end_id: the tokens of the tags if they are special tokens; their texts are a part of the answer.
    """

    form: ReasoningForm
    is_open: bool
    begin_id: int | None = None
    end_id: int | None = None

    @property
    def token_ids(self) -> frozenset[int]:
        """The special tokens that are a part of the text."""
        return frozenset(one for one in (self.begin_id, self.end_id) if one is not None)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form; `from_dict` reads it back."""
        ids = {"begin_id": self.begin_id, "end_id": self.end_id}
        known = {name: token_id for name, token_id in ids.items() if token_id is not None}
        return {"form": self.form.name, "is_open": self.is_open} | known

    @classmethod
    def from_dict(cls, wire: Mapping[str, Any]) -> Reasoning:
        """Parse the JSON form."""
        return cls(FORMS[wire["form"]], wire["is_open"], wire.get("begin_id"), wire.get("end_id"))


class _Place(Enum):
    """Where in the answer the next character is."""

    BEFORE = auto()  # it has not been decided whether there is reasoning
    BEGIN = auto()  # after the first tag, among blanks
    INSIDE = auto()
    BETWEEN = auto()  # after the second tag, among blanks
    AFTER = auto()


class ReasoningSplitter:
    """Splits an answer, as it arrives, into its reasoning and the rest, without the tags and the blanks around them.

    Both depend on the text so far alone, not on how it was split into pieces.
    """

    def __init__(self, reasoning: Reasoning) -> None:
        self._form = reasoning.form
        self._place = _Place.BEGIN if reasoning.is_open else _Place.BEFORE
        self._unread = ""
        self.has_begun = reasoning.is_open

    @property
    def has_ended(self) -> bool:
        """Whether all that follows belongs to the rest."""
        return self._place in (_Place.BETWEEN, _Place.AFTER)

    @property
    def is_in_rest(self) -> bool:
        """Whether the rest has begun: what was read last is a part of it."""
        return self._is_at(_Place.AFTER)

    def feed(self, text: str) -> tuple[str, str]:
        """Read the next piece; return the reasoning and the rest that are now certain."""
        self._unread += text
        if self._is_at(_Place.BEFORE):
            self._find_begin()
        self._skip_blanks(_Place.BEGIN, _Place.INSIDE)
        thought = self._thought() if self._is_at(_Place.INSIDE) else ""
        self._skip_blanks(_Place.BETWEEN, _Place.AFTER)
        return thought, self._take(len(self._unread)) if self._is_at(_Place.AFTER) else ""

    def end(self) -> tuple[str, str]:
        """Return what was held back, after the last piece."""
        held = self._take(len(self._unread))
        if self._is_at(_Place.BEFORE):
            return "", held
        return (held.rstrip(), "") if self._is_at(_Place.INSIDE) else ("", "")

    def _is_at(self, place: _Place) -> bool:
        return self._place is place

    def _find_begin(self) -> None:
        tag, text = self._form.begin, self._unread.lstrip()
        if text.startswith(tag):
            self._take(len(self._unread) - len(text) + len(tag))
            self._place = _Place.BEGIN
            self.has_begun = True
        elif not tag.startswith(text):
            self._place = _Place.AFTER

    def _skip_blanks(self, here: _Place, then: _Place) -> None:
        if self._is_at(here):
            self._unread = self._unread.lstrip()
            self._place = then if self._unread else here

    def _thought(self) -> str:
        tag, text = self._form.end, self._unread
        if (end := text.find(tag)) >= 0:
            thought = self._take(end).rstrip()
            self._take(len(tag))
            self._place = _Place.BETWEEN
            return thought
        sizes = range(min(len(text), len(tag) - 1), 0, -1)
        begun = next((size for size in sizes if text.endswith(tag[:size])), 0)
        return self._take(len(text[: len(text) - begun].rstrip()))

    def _take(self, count: int) -> str:
        taken, self._unread = self._unread[:count], self._unread[count:]
        return taken


def num_reasoning_tokens(reasoning: Reasoning, tokens: Sequence[str]) -> int:
    """Return how many of an answer's tokens belong to its reasoning, tags included; `tokens` are their texts."""
    splitter = ReasoningSplitter(reasoning)
    for index, token in enumerate(tokens):
        if splitter.has_ended:
            return index * splitter.has_begun
        splitter.feed(token)
    return len(tokens) * splitter.has_begun
