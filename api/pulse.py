"""What an API process does every second, whatever its clients do."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping

from common.redis.outage import Outage

BEAT_S = 1.0

log = logging.getLogger(__name__)


class Pulse:
    """Beats on a thread of its own, until the process ends.

    Args:
        duties: what to do with every beat, by what has not been done when Redis does not let it happen.
    """

    def __init__(self, duties: Mapping[str, Callable[[], None]]) -> None:
        self._duties = duties
        self._outage = Outage(log)

    def start(self) -> None:
        """Begin to beat."""
        threading.Thread(target=self._run, name="slm-pulse", daemon=True).start()

    def _run(self) -> None:
        while True:
            for what, duty in self._duties.items():
                self._outage.attempt(what, duty)
            time.sleep(BEAT_S)
