"""Distinguishes control tokens written by a template from the same characters in a user's text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from io import StringIO
from typing import Any, NamedTuple

from models.text.chat_template import Message, literals

_PRIVATE = range(0xE000, 0x110000)  # starts with the private use characters, which have no meaning

_TYPED = ("content", "name")  # the parts of a message that a user writes


class Segment(NamedTuple):
    """A part of a rendered conversation: one control token written by the template, or text."""

    text: str
    is_control: bool


class MarkedMessages(NamedTuple):
    """Messages in which each control token's name is between two marks, a character that occurs in none of them."""

    messages: list[Message]
    mark: str


class ControlTokens:
    """The names of the tokens that a template may write but a user may not."""

    def __init__(self, names: Iterable[str]) -> None:
        # A single character, such as a padding token "!", is part of ordinary texts and has no other token.
        self.names = sorted((name for name in set(names) if len(name) > 1), key=len, reverse=True)

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

    def mark(self, messages: list[Message]) -> MarkedMessages:
        """Mark the names in the messages' texts. A template that splits a text may leave marks without a name."""
        typed = [{part: one[part] for part in _TYPED if part in one} for one in messages]
        mark = _unused_character(text for parts in typed for part in parts.values() for text in _texts(part))
        marked = [{part: self._marked(text, mark) for part, text in parts.items()} for parts in typed]
        return MarkedMessages([one | parts for one, parts in zip(messages, marked, strict=True)], mark)

    def split(self, rendered: str, mark: str) -> list[Segment]:
        """Split a rendered conversation. Marked names are text; the segments together are the text without marks."""
        names = self._present_in(rendered) or "(?!)"
        typed = f"{mark}(?P<typed>{names}){mark}|{mark}|" if mark in rendered else ""  # the search is slow
        pattern = re.compile(f"{typed}(?P<control>{names})")
        segments: list[Segment] = []
        text, end = StringIO(), 0
        for match in pattern.finditer(rendered):
            text.write(rendered[end : match.start()])
            text.write(match.groupdict().get("typed") or "")
            end = match.end()
            if match["control"] is not None:
                segments += [Segment(text.getvalue(), is_control=False), Segment(match["control"], is_control=True)]
                text = StringIO()
        segments.append(Segment(text.getvalue() + rendered[end:], is_control=False))
        return [segment for segment in segments if segment.text]

    def _marked(self, content: Any, mark: str) -> Any:
        if isinstance(content, list):
            return [part | {"text": self._marked(part["text"], mark)} for part in content]
        names = self._present_in(content)
        return re.sub(names, lambda match: f"{mark}{match[0]}{mark}", content) if names else content

    def _present_in(self, text: str) -> str:
        """Return a pattern of the names in the text, longest first. A vocabulary may have thousands of names."""
        return "|".join(re.escape(name) for name in self.names if name in text)


def _texts(content: Any) -> list[str]:
    return [part["text"] for part in content] if isinstance(content, list) else [content]


def _unused_character(texts: Iterable[str]) -> str:
    all_of_them = list(texts)
    return next(char for char in map(chr, _PRIVATE) if not any(char in text for text in all_of_them))
