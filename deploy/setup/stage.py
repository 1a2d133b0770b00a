"""Shows a stage of the set-up as one console line: its name, its progress and the time it has taken.

On a terminal the line is updated in place. Elsewhere, as in a CI log, it is printed periodically. Standard library
only.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TextIO

MOVES_EVERY_S = 0.5
PRINTS_EVERY_S = 15.0

_ENDS: dict[type[BaseException] | None, str] = {None: "done", KeyboardInterrupt: "interrupted"}


class Stage:
    """Shows the line inside a `with` block. `detail` returns the progress; it is called on another thread."""

    def __init__(self, what: str, detail: Callable[[], str] = str, *, out: TextIO | None = None) -> None:
        self._what = what
        self._detail = detail
        self._out = out or sys.stdout
        self._moves = self._out.isatty() and os.environ.get("TERM") != "dumb"
        self._began = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="stage", daemon=True)

    def __enter__(self) -> Stage:
        self._show("")
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, _err: BaseException | None, _tb: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()
        self._show(_ENDS.get(kind, "failed"), is_last=True)

    def _run(self) -> None:
        while not self._over.wait(MOVES_EVERY_S if self._moves else PRINTS_EVERY_S):
            self._show(self._detail())

    def _show(self, text: str, *, is_last: bool = False) -> None:
        seconds = int(time.monotonic() - self._began)
        line = f"[setup] {self._what}  {seconds // 60}:{seconds % 60:02}  {text}".rstrip()
        if self._moves:
            width = shutil.get_terminal_size().columns - 1
            line = f"\r{line[:width]}\x1b[K"  # erases the rest of a longer previous line
        with contextlib.suppress(OSError):  # a console that has gone away
            print(line, end="" if self._moves and not is_last else "\n", file=self._out, flush=True)
