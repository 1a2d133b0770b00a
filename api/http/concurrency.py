"""Shares an API process between the owners of its requests.

All requests of a process run on one core, one greenlet at a time. So reading and parsing requests waits in a queue per
owner: no matter how many requests one owner sends, everybody else only waits for a few of them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from common.errors import RateLimitExceeded

MAX_CONCURRENT = 2  # requests of one owner: while one waits for Redis, another can compute
PAUSE = 2 * MAX_CONCURRENT - 1  # in multiples of the time a request took: all of an owner's requests get half the time
PAUSE_ALONE = 1  # if there are no other owners; leaves time for work that is not limited here, such as waiting streams
MAX_PAUSE_S = 0.5  # a request that takes long is waiting for Redis, and does not slow anybody down
PATIENCE_S = 20.0
RETRY_S = 1
ALONE_S = 10.0  # an owner without requests for this long counts as gone


class _Queue:
    """An owner's requests: those that run, and those that wait."""

    def __init__(self) -> None:
        self.free = threading.Semaphore(MAX_CONCURRENT)
        self.count = 0


class Presence:
    """Records which owners have sent requests recently."""

    def __init__(self) -> None:
        self._seen: dict[str, float] = {}  # owner -> time of the latest request, by the monotonic clock

    def is_alone(self, owner: str) -> bool:
        """Record a request of the owner; return whether there are no other owners at present."""
        now = time.monotonic()
        self._seen[owner] = now
        return all(now - at > ALONE_S for other, at in list(self._seen.items()) if other != owner)


class ConcurrencyLimiter:
    """Lets only a few of each owner's requests run at the same time.

    Args:
        presence: all owners of the process, whatever they request; None if no owner ever counts as alone.
        only_beside_others: whether an owner who is alone in this process need not wait.
    """

    def __init__(self, presence: Presence | None, *, only_beside_others: bool = False) -> None:
        self._presence = presence
        self._only_beside_others = only_beside_others
        self._lock = threading.Lock()
        self._queues: dict[str, _Queue] = {}

    @contextmanager
    def acquire(self, owner: str, *, patience_s: float | None = None) -> Iterator[None]:
        """Wait, for at most `patience_s`, until the owner's other requests leave room; leaving the block frees it.

        Raises:
            RateLimitExceeded: there was no room in time.
        """
        is_alone = self._presence is not None and self._presence.is_alone(owner)
        if is_alone and self._only_beside_others:
            yield
            return
        queue = self._enter(owner)
        try:
            if not queue.free.acquire(timeout=patience_s):
                raise RateLimitExceeded("Too many of your requests are waiting; try again.", retry_after_s=RETRY_S)
            began = time.monotonic()
            try:
                yield
            finally:
                if queue.count > MAX_CONCURRENT:  # the owner wants more than a share
                    pause = PAUSE_ALONE if is_alone else PAUSE
                    time.sleep(min(pause * (time.monotonic() - began), MAX_PAUSE_S))
                queue.free.release()
        finally:
            self._leave(owner, queue)

    def _enter(self, owner: str) -> _Queue:
        with self._lock:
            queue = self._queues.setdefault(owner, _Queue())
            queue.count += 1
            return queue

    def _leave(self, owner: str, queue: _Queue) -> None:
        with self._lock:
            queue.count -= 1
            if queue.count == 0:
                del self._queues[owner]
