"""Writes what the command has to say: to people on a terminal, to pipes, or as JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from slm.live_line import LiveLine

_PIPE_WIDTH = 10_000  # columns: nothing is wrapped or cut off for a program
# A terminal would obey them; a model's answer and the texts of others may contain any.
_CONTROLS = {code: "\ufffd" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"}


class Output:
    """Results go to the standard output, everything else to the standard error.

    Args:
        as_json: write JSON only: a document, or a line for each event of a stream.
    """

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self._out = _console(stderr=False)
        self.err = _console(stderr=True)

    @property
    def is_live(self) -> bool:
        """Whether progress can be shown: somebody watches the standard error."""
        return self.err.is_terminal and not self.as_json

    def result(self, body: Mapping[str, Any], text: str) -> None:
        """Write a result: the body for a program, the text for people."""
        if self.as_json:
            self._document(body)
        else:
            self.line(text)

    def listing(self, body: Mapping[str, Any], headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Write a list: the body for a program, a table for people, with "-" for None."""
        if self.as_json:
            self._document(body)
        else:
            self.table(headings, rows)

    def table(self, headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Write a table for people."""
        table = Table(*headings, box=None, pad_edge=False, header_style="bold")
        for row in rows:
            table.add_row(*map(_cell, row))
        self._out.print(table)

    def facts(self, body: Mapping[str, Any], facts: Mapping[str, object], text: str = "") -> None:
        """Write what is known of one thing: the body for a program; a line for each fact, and a text, for people."""
        if self.as_json:
            self._document(body)
            return
        for name, value in facts.items():
            if value is not None:
                self.line(f"{name.replace('_', ' ') + ':':<12} {_cell(value)}")
        if text:
            self.line(f"\n{text}")

    def step(self, line: str) -> None:
        """Write what the command does next, for people who read it later."""
        if not self.as_json:
            self.note(line)

    def event(self, body: Mapping[str, Any]) -> None:
        """Write a line of JSON at once."""
        print(json.dumps(body, ensure_ascii=False), flush=True)

    def line(self, text: str) -> None:
        """Write a line for people."""
        self.piece(f"{text}\n")

    def piece(self, text: str) -> None:
        """Write a piece of an answer at once, unchanged unless a terminal would obey it."""
        sys.stdout.write(text.translate(_CONTROLS) if sys.stdout.isatty() else text)
        sys.stdout.flush()

    def note(self, text: str) -> None:
        """Write a line to the standard error."""
        self.err.print(text.translate(_CONTROLS) if self.err.is_terminal else text, soft_wrap=True)

    def live_line(self, line: str) -> LiveLine:
        """Return a line that says what is going on, if anybody watches."""
        return LiveLine(self.err if self.is_live else None, line)

    def _document(self, body: Mapping[str, Any]) -> None:
        print(json.dumps(body, ensure_ascii=False, indent=2))


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr, markup=False, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    return console


def _cell(value: object) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_cell, value)) or "-"
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    return "-" if value is None or value == "" else str(value).translate(_CONTROLS)
