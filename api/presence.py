"""Tells Redis that the API is there: while it is not, nobody can read, and no job is cancelled for that."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from common.outage import Outage

BEAT_S = 1.0

log = logging.getLogger(__name__)


class Presence:
    """Beats on a thread of its own, until the process ends.

    Args:
        beat: notes in Redis that the API is there; may raise `redis.exceptions.RedisError`.
    """

    def __init__(self, beat: Callable[[], None]) -> None:
        self._beat = beat
        self._outage = Outage(log)

    def start(self) -> None:
        """Begin to beat."""
        threading.Thread(target=self._run, name="slm-presence", daemon=True).start()

    def _run(self) -> None:
        while True:
            self._outage.attempt("heartbeat not sent", self._beat)
            time.sleep(BEAT_S)
