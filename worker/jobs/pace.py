"""Decides which steps' tokens are sent together. Does no I/O."""

from __future__ import annotations

WINDOW_S = 0.02  # so that nobody sees that tokens waited


class Pace:
    """Tokens wait for those of the next step if these are expected within `window_s` after the last sending.

    So the tokens of slow steps never wait, and those of quick ones wait for the last step in the window, hardly ever
    for its end. All times are of one clock, in seconds.
    """

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._sent_at = 0.0
        self._step_at = 0.0
        self._step_s = 0.0

    def note_step(self, at: float) -> None:
        """Record when a step ended; the next one is expected to take as long."""
        self._step_s = at - self._step_at
        self._step_at = at

    def note_sending(self, at: float) -> None:
        """Record that everything was sent."""
        self._sent_at = at

    def due_in_s(self, now: float) -> float:
        """Return how long the tokens of the latest step may wait for others; not positive: send them now."""
        end = self._sent_at + self._window_s
        return 0.0 if self._step_at + self._step_s > end else end - now
