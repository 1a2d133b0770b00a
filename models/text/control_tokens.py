"""Distinguishes control tokens written by a template from the same characters in a user's text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from io import StringIO
from typing import Any, NamedTuple

from models.text.chat_template import Message, Tool, literals

_PRIVATE = range(0xE000, 0x110000)  # starts with the private use characters, which have no meaning


class Segment(NamedTuple):
    """A part of a rendered conversation: one control token written by the template, or text."""

    text: str
    is_control: bool


class MarkedMessages(NamedTuple):
    """Messages and tools in which each control token's name is between two marks, a character that occurs in none."""

    messages: list[Message]
    mark: str
    tools: list[Tool]


class ControlTokens:
    """The names of the tokens that a template may write but a user may not.

    Their order is the same in every process, and longer names come first.
    """

    def __init__(self, names: Iterable[str]) -> None:
        # A single character, such as a padding token "!", is part of ordinary texts and has no other token.
        self.names = sorted({name for name in names if len(name) > 1}, key=lambda name: (-len(name), name))
        self._beginnings = {name[0] for name in self.names}

    @classmethod
    def of(cls, tokenizer: Any, template: str) -> ControlTokens:
        """Return those of a transformers tokenizer: its special tokens, and the added tokens that the template writes.

        Raises:
            TemplateError: `template` is not a valid template.
        """
        added = list(tokenizer.added_tokens_decoder.values())
        listed = getattr(tokenizer, "chat_control_tokens", None)
        written = literals(template) if listed is None else "\n".join(listed)
        control = [one.content for one in added if one.special or (one.content in written and one.content.strip())]
        return cls([*control, *tokenizer.all_special_tokens])

    def mark(self, messages: list[Message], tools: Sequence[Tool] = ()) -> MarkedMessages:
        """Mark the names in the texts. A template that splits a text may leave marks without a name."""
        mark = _unused_character(_texts([messages, *tools]))
        marked = [self._marked(one, mark) | {"role": one["role"]} for one in messages]
        return MarkedMessages(marked, mark, [self._marked(tool, mark) for tool in tools])

    def split(self, rendered: str, mark: str) -> list[Segment]:
        """Split a rendered conversation. Marked names are text; the segments together are the text without marks."""
        names = self._present_in(rendered) or "(?!)"
        if mark not in rendered:  # as nearly always, and quick
            parts = re.split(f"({names})", rendered)
            return [Segment(text, is_control=index % 2 == 1) for index, text in enumerate(parts) if text]
        pattern = re.compile(f"{mark}(?P<typed>{names}){mark}|{mark}|(?P<control>{names})")
        segments: list[Segment] = []
        text, end = StringIO(), 0
        for match in pattern.finditer(rendered):
            text.write(rendered[end : match.start()])
            text.write(match["typed"] or "")
            end = match.end()
            if match["control"] is not None:
                segments += [Segment(text.getvalue(), is_control=False), Segment(match["control"], is_control=True)]
                text = StringIO()
        segments.append(Segment(text.getvalue() + rendered[end:], is_control=False))
        return [segment for segment in segments if segment.text]

    def _marked(self, value: Any, mark: str) -> Any:
        if isinstance(value, dict):
            return {self._marked(key, mark): self._marked(one, mark) for key, one in value.items()}
        if isinstance(value, list):
            return [self._marked(one, mark) for one in value]
        names = self._present_in(value) if isinstance(value, str) else ""
        return re.sub(names, lambda match: f"{mark}{match[0]}{mark}", value) if names else value

    def _present_in(self, text: str) -> str:
        """Return a pattern of the names in the text, longest first. A vocabulary may have thousands of names."""
        if not any(char in text for char in self._beginnings):
            return ""  # as for nearly every text that a person writes
        return "|".join(re.escape(name) for name in self.names if name in text)


def _texts(value: Any) -> Iterator[str]:
    """Yield all texts in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from _texts([*value, *value.values()])
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)


def _unused_character(texts: Iterable[str]) -> str:
    all_of_them = list(texts)
    return next(char for char in map(chr, _PRIVATE) if not any(char in text for text in all_of_them))
