"""The waiting line as this process's clients see it: looked up about once a second, for all of them together."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection

from redis.exceptions import RedisError

from common.job_store import Place

LOOK_UP_S = 1.0
TURN_HAS_COME = Place(0)

log = logging.getLogger(__name__)


class Spot:
    """What one client knows of its job's place in line.

    Args:
        line: looks the places up.
        on_move: called on the line's thread when there is a place that the client does not know.
    """

    def __init__(self, line: Line, job_id: str, on_move: Callable[[], None]) -> None:
        self.job_id = job_id
        self._line = line
        self._on_move = on_move
        self._known: int | None = None
        self._news: Place | None = None
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

    def put(self, place: Place) -> None:
        """A look-up's result; one that was under way when the wait ended is too late."""
        if self._waits and place.position != self._known:
            self._known = place.position
            self._news = place
            self._on_move()

    def take(self) -> Place | None:
        """The place to tell the client of, if it has changed."""
        news, self._news = self._news, None
        return news if self._waits else None


class Line:
    """Keeps a thread while there is somebody to look for.

    Args:
        places: tells where jobs stand, leaving out those that wait no more; may raise
            `redis.exceptions.RedisError`.
    """

    def __init__(self, places: Callable[[Collection[str]], dict[str, Place]]) -> None:
        self._places = places
        self._lock = threading.Lock()
        self._spots: set[Spot] = set()
        self._is_running = False

    def add(self, spot: Spot) -> None:
        """Look for this one too."""
        with self._lock:
            self._spots.add(spot)
            if not self._is_running:
                self._is_running = True
                threading.Thread(target=self._run, name="slm-line", daemon=True).start()

    def remove(self, spot: Spot) -> None:
        """Look for it no more."""
        with self._lock:
            self._spots.discard(spot)

    def _run(self) -> None:
        while spots := self._current():
            try:
                places = self._places({spot.job_id for spot in spots})
            except RedisError as err:
                log.warning("queue positions could not be read (%s); trying again", err)
            else:
                for spot in spots:
                    spot.put(places.get(spot.job_id, TURN_HAS_COME))
            time.sleep(LOOK_UP_S)

    def _current(self) -> list[Spot]:
        """Whom to look for now; nobody ends the thread."""
        with self._lock:
            self._is_running = bool(self._spots)
            return list(self._spots)
