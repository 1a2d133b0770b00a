"""Shows the progress of a batch, on a terminal or in a log."""

from __future__ import annotations

import time
from typing import TextIO

LOG_EVERY_S = 10.0


class Progress:
    """Updates one line in place on a terminal; in a log, writes a line every ten seconds."""

    def __init__(self, out: TextIO, *, total: int, num_answered: int, num_failed: int) -> None:
        self._out = out
        self._is_terminal = out.isatty()
        self._total = total
        self._num_answered = num_answered
        self._num_failed = num_failed
        self._told_at = -LOG_EVERY_S
        self._tell()

    def note(self, *, failed: bool) -> None:
        """Count one more finished item."""
        self._num_failed += failed
        self._num_answered += not failed
        self._tell()

    def finish(self) -> None:
        """Write the last line."""
        self._out.write("\n" if self._is_terminal else f"{self._line()}\n")

    def _tell(self) -> None:
        if self._is_terminal:
            self._out.write(f"\r{self._line()}")
            self._out.flush()
        elif time.monotonic() - self._told_at >= LOG_EVERY_S:
            self._told_at = time.monotonic()
            self._out.write(f"{self._line()}\n")

    def _line(self) -> str:
        return f"{self._num_answered} of {self._total} answered, {self._num_failed} failed"
