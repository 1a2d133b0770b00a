"""Detects whether this process gets too little CPU time; such a process reads responses too late to judge others."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

STEP_S = 0.1
WINDOW_S = 20.0
STARVED_S = 4.0  # about the time after which Redis counts as away (`common.redis.client.SOCKET_TIMEOUT_S`)


class Starvation:
    """Measures how much too late a sleeping thread wakes up.

    Args:
        clock: returns seconds; monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._delays: deque[tuple[float, float]] = deque()  # when it woke, and how many seconds too late
        self._sleeps_since: float | None = None

    def start(self) -> None:
        """Start measuring on a thread, until the process ends."""
        threading.Thread(target=self._run, name="slm-starvation", daemon=True).start()

    def _run(self) -> None:
        while True:
            self.fall_asleep()
            time.sleep(STEP_S)
            self.wake()

    def fall_asleep(self) -> None:
        """Record the start of a sleep of `STEP_S`."""
        self._sleeps_since = self._clock()

    def wake(self) -> None:
        """Record the end of the sleep."""
        self._delays.append((self._clock(), self._delay()))
        self._sleeps_since = None
        while self._delays[0][0] < self._clock() - WINDOW_S:
            self._delays.popleft()

    def _delay(self) -> float:
        return 0.0 if self._sleeps_since is None else max(0.0, self._clock() - self._sleeps_since - STEP_S)

    @property
    def is_starved(self) -> bool:
        """Whether the process was waiting for the CPU for `STARVED_S` of the last `WINDOW_S` seconds."""
        begin = self._clock() - WINDOW_S
        return self._delay() + sum(delay for at, delay in list(self._delays) if at >= begin) >= STARVED_S
