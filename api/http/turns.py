"""Shares a process of the API between the owners of its requests.

All requests of a process run on one core, a greenlet at a time. So what an owner's requests read and parse waits in a
queue of that owner's own: however many there are, everybody else only has to wait for a few.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from common.errors import RateLimitExceeded

AT_ONCE = 2  # while one waits for Redis, another can compute
PAUSE = 2 * AT_ONCE - 1  # times as long as a turn took: what all of an owner's turns take is half of the time
PAUSE_ALONE = 1  # if there are no other owners: only for what has no turns, such as what waits for tokens
MAX_PAUSE_S = 0.5  # a turn that takes long waits for Redis, and costs nobody anything
PATIENCE_S = 20.0
RETRY_S = 1
ALONE_S = 10.0  # after so long without a request an owner counts as gone


class _Queue:
    """An owner's requests: those that work, and those that wait."""

    def __init__(self) -> None:
        self.free = threading.Semaphore(AT_ONCE)
        self.count = 0


class Presence:
    """Which owners have sent something lately."""

    def __init__(self) -> None:
        self._seen: dict[str, float] = {}  # when each came last, by the monotonic clock

    def is_alone(self, owner: str) -> bool:
        """The owner comes; returns whether nobody else is there."""
        now = time.monotonic()
        self._seen[owner] = now
        return all(now - at > ALONE_S for other, at in list(self._seen.items()) if other != owner)


class Turns:
    """Lets a few of each owner's requests work at the same time.

    Args:
        presence: of all owners of the process, whatever they ask for; None where nobody is ever alone.
        only_beside_others: whether an owner who is alone in this process need not wait.
    """

    def __init__(self, presence: Presence | None, *, only_beside_others: bool = False) -> None:
        self._presence = presence
        self._only_beside_others = only_beside_others
        self._lock = threading.Lock()
        self._queues: dict[str, _Queue] = {}

    @contextmanager
    def take(self, owner: str, *, patience_s: float | None = None) -> Iterator[None]:
        """Wait for the owner's turn, for `patience_s` at most; it is over when the block is left.

        Raises:
            RateLimitExceeded: the turn has not come in time.
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
                if queue.count > AT_ONCE:  # the owner wants more than a share
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
