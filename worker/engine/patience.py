"""How long the engine waits for what may take long."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

SHARE = 0.1  # of all time
LEAST_S, MOST_S = 0.001, 0.02  # at a time


class Patience:
    """A tenth of the time, so that nobody who lets the engine wait in every step can slow the others by much more.

    The least wait is granted always: it is what an answer over a pipe takes.
    """

    def __init__(self) -> None:
        self._saved_s = MOST_S
        self._since = time.monotonic()

    @contextmanager
    def waiting(self) -> Iterator[float]:
        """Wait in a `with` block, until the time (`time.monotonic`) that it gets."""
        begin = time.monotonic()
        self._saved_s = min(MOST_S, self._saved_s + SHARE * (begin - self._since))
        try:
            yield begin + max(LEAST_S, self._saved_s)
        finally:
            self._since = time.monotonic()
            self._saved_s = max(0.0, self._saved_s - (self._since - begin))
