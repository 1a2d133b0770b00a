"""Logs the beginning and the end of a Redis outage once each, no matter how many threads retry in between."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from redis.exceptions import RedisError


class Outage:
    """Tracks the Redis operations that fail in this process. All threads share it; each retries its own operation.

    An outage begins with the first failure and ends when every failed operation has succeeded again.

    Args:
        log: receives one line for the beginning and one for the end.
        server: what the lines call the server.
    """

    def __init__(self, log: logging.Logger, server: str = "Redis") -> None:
        self._log = log
        self._server = server
        self._lock = threading.Lock()
        self._failing: set[str] = set()
        self._since = 0.0

    def attempt(self, what: str, act: Callable[[], object]) -> bool:
        """Call `act`; return False if Redis failed. `what` describes the failure, for example "leases not renewed"."""
        try:
            act()
        except RedisError as err:
            self.note_failure(what, err)
            return False
        self.note_success(what)
        return True

    def note_failure(self, what: str, err: BaseException) -> None:
        """Record that an operation failed; the caller will retry it."""
        with self._lock:
            is_first = not self._failing
            self._failing.add(what)
            if is_first:
                self._since = time.monotonic()
        if is_first:
            self._log.warning("%s cannot be used (%s: %s); waiting until it can", self._server, what, err)

    def note_success(self, what: str) -> None:
        """Record that an operation succeeded."""
        if what not in self._failing:  # the usual case, without the lock
            return
        with self._lock:
            self._failing.discard(what)
            is_over = not self._failing
        if is_over:
            self._log.warning("%s can be used again, after %.1f s", self._server, time.monotonic() - self._since)
