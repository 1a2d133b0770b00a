"""Runs the periodic duties of an API process, once a second."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping

from common.redis.outage import Outage

BEAT_S = 1.0

log = logging.getLogger(__name__)


class Pulse:
    """Runs the duties on a thread until the process ends.

    Args:
        duties: functions to call every second, by the text that describes their failure if Redis is away.
    """

    def __init__(self, duties: Mapping[str, Callable[[], None]]) -> None:
        self._duties = duties
        self._outage = Outage(log)

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._run, name="slm-pulse", daemon=True).start()

    def _run(self) -> None:
        while True:
            for what, duty in self._duties.items():
                self._outage.attempt(what, duty)
            time.sleep(BEAT_S)
