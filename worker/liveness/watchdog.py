"""Detects that this worker is stalled: alive, but taking no messages, a known fault of Celery after a Redis restart."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from redis import Redis

STALL_S = 10.0  # if wake-up messages wait for this long although the worker is free, it is stalled

log = logging.getLogger(__name__)


class Watchdog:
    """Checks at every heartbeat whether wake-up messages wait although this worker has free capacity.

    Args:
        redis: holds the wake-up messages.
        queues: keys of the worker's Celery queues.
        is_free: returns whether the worker has a thread for another job.
        on_stall: called once, after the worker has been stalled for `STALL_S`.
        clock: seconds; monotonic.
    """

    def __init__(
        self,
        redis: Redis,
        queues: Sequence[str],
        is_free: Callable[[], bool],
        on_stall: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._redis = redis
        self._queues = queues
        self._is_free = is_free
        self._on_stall = on_stall
        self._clock = clock
        self._stalled_since: float | None = None
        self._has_fired = False

    def note_message(self) -> None:
        """Note that a wake-up message has arrived."""
        self._stalled_since = None

    def check(self) -> None:
        """Check once. May raise `redis.exceptions.RedisError`."""
        if not self._is_free() or not any(self._redis.llen(queue) for queue in self._queues):
            self._stalled_since = None
            return
        if self._stalled_since is None:
            self._stalled_since = self._clock()
        elif self._clock() - self._stalled_since >= STALL_S and not self._has_fired:
            self._has_fired = True
            log.critical("stalled: wake-up messages have waited for %.0f s although this worker is free", STALL_S)
            self._on_stall()
