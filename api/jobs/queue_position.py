"""The queue as this process's clients see it: looked up about once a second, for all of them together."""

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
    """What one client knows of its job's queue position.

    Args:
        line: looks the places up.
        on_move: called on the line's thread when there is a place that the client does not know.
    """

    def __init__(self, line: QueueWatcher, job_id: str, on_move: Callable[[], None]) -> None:
        self.job_id = job_id
        self._line = line
        self._on_move = on_move
        self._known: int | None = None
        self._news: QueuePosition | None = None
        self._waits = False

    def begin(self, known: int | None = None) -> None:
        """The job waits, and the client knows of this position."""
        self._known = known
        self._waits = True
        self._line.add(self)

    def end(self) -> None:
        """The job waits no more, or its client does not. May be called at any time and from any thread."""
        self._waits = False
        self._line.remove(self)
        self._news = None

    def put(self, place: QueuePosition) -> None:
        """A look-up's result; one that was under way when the wait ended is too late."""
        if self._waits and place.position != self._known:
            self._known = place.position
            self._news = place
            self._on_move()

    def take(self) -> QueuePosition | None:
        """The place to tell the client of, if it has changed."""
        news, self._news = self._news, None
        return news if self._waits else None


class QueueWatcher:
    """Keeps a thread while there is somebody to look for.

    Args:
        places: tells where jobs stand, leaving out those that wait no more; may raise
            `redis.exceptions.RedisError`.
    """

    def __init__(self, places: Callable[[Collection[str]], dict[str, QueuePosition]]) -> None:
        self._places = places
        self._lock = threading.Lock()
        self._watches: set[PositionWatch] = set()
        self._is_running = False

    def add(self, watch: PositionWatch) -> None:
        """Look for this one too."""
        with self._lock:
            self._watches.add(watch)
            if not self._is_running:
                self._is_running = True
                threading.Thread(target=self._run, name="slm-line", daemon=True).start()

    def remove(self, watch: PositionWatch) -> None:
        """Look for it no more."""
        with self._lock:
            self._watches.discard(watch)

    def _run(self) -> None:
        while watches := self._current():
            try:
                places = self._places({watch.job_id for watch in watches})
            except RedisError as err:
                log.warning("queue positions could not be read (%s); trying again", err)
            else:
                for watch in watches:
                    watch.put(places.get(watch.job_id, DISPATCHED))
            time.sleep(LOOK_UP_S)

    def _current(self) -> list[PositionWatch]:
        """Whom to look for now; nobody ends the thread."""
        with self._lock:
            self._is_running = bool(self._watches)
            return list(self._watches)
