"""Measures how fast an answer grows."""

from __future__ import annotations

from collections import deque

WINDOW_S = 3.0
LEAST_S = 0.5  # a shorter time says nothing; what a stream repeats from the past arrives within it


class Rate:
    """Counts events over the last seconds."""

    def __init__(self) -> None:
        self._times_s: deque[float] = deque()

    def note(self, now_s: float) -> None:
        """Count one event."""
        self._times_s.append(now_s)
        while now_s - self._times_s[0] > WINDOW_S:
            self._times_s.popleft()

    @property
    def per_s(self) -> float | None:
        """Events per second; None if too little time has passed."""
        if not self._times_s or (span_s := self._times_s[-1] - self._times_s[0]) < LEAST_S:
            return None
        return (len(self._times_s) - 1) / span_s
