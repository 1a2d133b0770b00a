"""Computes the pause before a process that died is restarted."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Backoff:
    """Pauses that double with each consecutive death, and reset after a long enough run. All times in seconds."""

    first_s: float = 0.5
    most_s: float = 30.0
    well_after_s: float = 60.0
    _next_s: float = field(default=0.0, init=False)

    def after_run_of(self, ran_s: float) -> float:
        """Return the pause in seconds after a run of `ran_s` seconds that ended by itself."""
        pause = self.first_s if ran_s >= self.well_after_s else max(self.first_s, self._next_s)
        self._next_s = min(pause * 2, self.most_s)
        return pause
