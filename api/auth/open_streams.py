"""Limits how many streams each owner has open in this process, because each one costs memory until it ends."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

from common.errors import RateLimitExceeded

RETRY_S = 1  # it is unknown when the next of them ends


class OpenStreams:
    """Counts the open streams of each owner."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: Counter[str] = Counter()

    def enter(self, owner: str, most: int | None) -> Callable[[], None]:
        """Count one more; return the function to call, once, when it ends.

        Raises:
            RateLimitExceeded: `most` streams are open already.
        """
        with self._lock:
            if most is not None and self._open[owner] >= most:
                message = f"You have reached your limit of {most} open streams."
                raise RateLimitExceeded(message, retry_after_s=RETRY_S, limit=most)
            self._open[owner] += 1
        return lambda: self._leave(owner)

    def _leave(self, owner: str) -> None:
        with self._lock:
            self._open[owner] -= 1
            if self._open[owner] == 0:
                del self._open[owner]
