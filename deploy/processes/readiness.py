"""Reports on the console when each part of the server is ready."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

Probe = Callable[[], str | None]
"""Returns a message once the part is ready (or has given up), and None before."""

POLL_EVERY_S = 0.1


class Readiness(threading.Thread):
    """Polls each probe until it answers, says each answer with the time it took, and calls `then` after the last."""

    def __init__(
        self,
        probes: Mapping[str, Probe],
        *,
        stopping: threading.Event,
        say: Callable[[str], None],
        then: Callable[[], None],
    ) -> None:
        super().__init__(name="readiness", daemon=True)
        self._waiting = dict(probes)
        self._stopping = stopping
        self._say = say
        self._then = then
        self._began = time.monotonic()

    def run(self) -> None:
        """Poll until every part has answered or the server stops."""
        while self._waiting:
            if self._stopping.wait(POLL_EVERY_S):
                return
            for name in list(self._waiting):
                self._ask(name)
        self._then()

    def _ask(self, name: str) -> None:
        answer = self._waiting[name]()
        if answer is not None:
            del self._waiting[name]
            self._say(f"{name} {answer} ({time.monotonic() - self._began:.1f} s)")
