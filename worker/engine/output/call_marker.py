"""Finds where the calls of tools begin in an answer."""

from __future__ import annotations

from dataclasses import dataclass

from common.jobs.reasoning import Reasoning, ReasoningSplitter
from common.jobs.tools import ToolForm


@dataclass(frozen=True, slots=True)
class CallMarker:
    """The form of a model's calls; `token_id` is the token of its marker if that is a special token."""

    form: ToolForm
    token_id: int | None


class CallDetector:
    """Reads an answer in pieces until its calls begin. What a model writes in its reasoning is no call."""

    def __init__(self, marker: CallMarker, reasoning: Reasoning | None = None) -> None:
        self.has_begun = False
        self._splitter = None if reasoning is None else ReasoningSplitter(reasoning)
        self._form = marker.form
        self._text = ""  # the answer's beginning, or the end of what has been read

    def read(self, text: str) -> None:
        """Read the next piece."""
        marker = self._form.marker
        if self.has_begun:
            return
        self._text += text if self._splitter is None else self._splitter.feed(text)[1]
        if self._form.begins_answer:
            self._text = self._text[: len(marker)]
            self.has_begun = self._text == marker
        else:
            self.has_begun = marker in self._text
            self._text = self._text[-len(marker) :]
