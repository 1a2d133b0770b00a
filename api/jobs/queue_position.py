"""Looks up the queue positions of the jobs that clients of this process wait for: once a second, in one round trip."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection

from redis.exceptions import RedisError

from common.jobs.store import QueuePosition

LOOK_UP_S = 1.0
DISPATCHED = QueuePosition(0)

log = logging.getLogger(__name__)


class PositionWatch:
    """Tracks the queue position that one client knows, and reports each new one.

    Args:
        watcher: looks the positions up.
        job_id: the client's job.
        on_move: called on the watcher's thread if there is a position that the client does not know.
    """

    def __init__(self, watcher: QueueWatcher, job_id: str, on_move: Callable[[], None]) -> None:
        self.job_id = job_id
        self._watcher = watcher
        self._on_move = on_move
        self._known: int | None = None
        self._unreported: QueuePosition | None = None
        self._is_waiting = False

    def begin(self, known: int | None = None) -> None:
        """Start watching a job that waits; `known` is the position that the client knows."""
        self._known = known
        self._is_waiting = True
        self._watcher.add(self)

    def end(self) -> None:
        """Stop watching. May be called at any time and from any thread."""
        if not self._is_waiting:  # the usual case: it is called for each token
            return
        self._is_waiting = False
        self._watcher.remove(self)
        self._unreported = None

    def put(self, found: QueuePosition) -> None:
        """Receive the result of a lookup; it is ignored if the job has stopped waiting in the meantime."""
        if self._is_waiting and found.position != self._known:
            self._known = found.position
            self._unreported = found
            self._on_move()

    def take(self) -> QueuePosition | None:
        """Return the position to report to the client, once; None if it has not changed."""
        found, self._unreported = self._unreported, None
        return found if self._is_waiting else None


class QueueWatcher:
    """Looks up the positions of all watched jobs, on a thread that runs while there are any.

    Args:
        look_up: returns the positions of those of the given jobs that still wait; may raise
            `redis.exceptions.RedisError`.
    """

    def __init__(self, look_up: Callable[[Collection[str]], dict[str, QueuePosition]]) -> None:
        self._look_up = look_up
        self._lock = threading.Lock()
        self._watches: set[PositionWatch] = set()
        self._is_running = False

    def add(self, watch: PositionWatch) -> None:
        """Look up this job, too."""
        with self._lock:
            self._watches.add(watch)
            if not self._is_running:
                self._is_running = True
                threading.Thread(target=self._run, name="slm-queue-watcher", daemon=True).start()

    def remove(self, watch: PositionWatch) -> None:
        """Stop looking up this job."""
        with self._lock:
            self._watches.discard(watch)

    def _run(self) -> None:
        while watches := self._current():
            try:
                found = self._look_up({watch.job_id for watch in watches})
            except RedisError as err:
                log.warning("queue positions could not be read (%s); trying again", err)
            else:
                for watch in watches:
                    watch.put(found.get(watch.job_id, DISPATCHED))
            time.sleep(LOOK_UP_S)

    def _current(self) -> list[PositionWatch]:
        """Return the jobs to look up now; an empty list ends the thread."""
        with self._lock:
            self._is_running = bool(self._watches)
            return list(self._watches)
