"""Limits how long the engine waits for slow constraints."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

SHARE = 0.1  # of the total time
MIN_S, MAX_S = 0.001, 0.02  # per wait


class Patience:
    """Grants a tenth of the time for waits, so that slow constraints hardly slow the other sequences.

    The minimum wait is always granted: a reply over a pipe takes that long.
    """

    def __init__(self) -> None:
        self._saved_s = MAX_S
        self._since = time.monotonic()

    @contextmanager
    def waiting(self) -> Iterator[float]:
        """Measure a wait in a `with` block; yield its deadline (`time.monotonic`)."""
        begin = time.monotonic()
        self._saved_s = min(MAX_S, self._saved_s + SHARE * (begin - self._since))
        try:
            yield begin + max(MIN_S, self._saved_s)
        finally:
            self._since = time.monotonic()
            self._saved_s = max(0.0, self._saved_s - (self._since - begin))
