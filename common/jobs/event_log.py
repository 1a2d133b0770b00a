"""Reads a job's events: first from the log, then live, without gaps or duplicates."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from enum import Enum, auto
from types import TracebackType
from typing import cast

from redis import Redis
from redis.exceptions import RedisError

from common.errors import JobLost
from common.jobs.events import Event
from common.owners.collection import Limiter
from common.redis import keys
from common.redis.subscriber import Listener, Subscriber

READ_CHUNK = 512  # events per read: bounds the memory of a slow reader that catches up, and how long others wait
_READING = "event log not read"


class EventLog:
    """Reads the event logs of all jobs."""

    def __init__(self, redis: Redis, subscriber: Subscriber) -> None:
        self.outage = subscriber.outage
        self._redis = redis
        self._subscriber = subscriber

    def read(self, job_id: str, first: int = 0, limit: int | None = None) -> list[Event]:
        """Return the events written so far from seq `first` on, at most `limit`."""
        found: list[Event] = []
        while limit is None or len(found) < limit:
            wanted = READ_CHUNK if limit is None else min(READ_CHUNK, limit - len(found))
            chunk = self._chunk(job_id, first + len(found), wanted)
            found += chunk
            if len(chunk) < wanted:
                break
        return found

    def _chunk(self, job_id: str, first: int, count: int) -> list[Event]:
        messages = cast(list[str], self._redis.lrange(keys.log(job_id), first, first + count - 1))
        return [Event.from_wire(message) for message in messages]

    def length(self, job_id: str) -> int:
        """Return how many events are written."""
        return int(self._redis.llen(keys.log(job_id)))

    def last(self, job_id: str) -> Event | None:
        """Return the last event written; None if the log is empty."""
        message = cast("str | None", self._redis.lindex(keys.log(job_id), -1))
        return None if message is None else Event.from_wire(message)

    def follow(self, job_id: str, limiter: Limiter = nullcontext, *, is_new: bool = False) -> Follower:
        """Subscribe to a job, which may not exist yet.

        Args:
            job_id: the job.
            limiter: entered while the log is read; not for messages from pub/sub.
            is_new: the job does not exist yet, so there is nothing to read before the first message.

        Raises:
            RedisUnavailable: Redis does not confirm the subscription.
        """
        return Follower(
            job_id, self._redis, self, self._subscriber.listen(keys.channel(job_id)), limiter, is_new=is_new
        )


class Pause(Enum):
    """Comes after events if the next one is not there yet: what was held back to be sent together should go now."""

    PAUSE = auto()


PAUSE = Pause.PAUSE


class Follower:
    """A subscription to one job. A context manager: exiting it ends the subscription.

    Attributes:
        pulse_s: seconds of silence after which a reading yields None.
    """

    def __init__(
        self, job_id: str, redis: Redis, events: EventLog, listener: Listener, limiter: Limiter, *, is_new: bool
    ) -> None:
        self._is_new = is_new
        self._job_id = job_id
        self._redis = redis
        self._events = events
        self._listener = listener
        self._limiter = limiter
        self._nudged = False
        self.pulse_s = 0.0

    def events(self, *, after: int = -1, pulse_s: float) -> Iterator[Event | None]:
        """Yield what `events_and_pauses` yields, without the pauses."""
        return (event for event in self.events_and_pauses(after=after, pulse_s=pulse_s) if event is not PAUSE)

    def events_and_pauses(self, *, after: int = -1, pulse_s: float) -> Iterator[Event | Pause | None]:
        """Yield the events after seq `after`, each once and in order, up to the terminal one.

        Yields `PAUSE` after events before it waits for more, and None if nothing came for `pulse_s` seconds and after
        `nudge`. Ends early when the follower is closed. The attribute `pulse_s` can be changed meanwhile.
        While Redis is unreachable it yields None at the same interval, then continues where it stopped. If Redis has
        lost events up to `after` or beyond, it waits for later ones, or yields the terminal event if the job ends.

        Raises:
            JobLost: Redis no longer has the job.
        """
        self.pulse_s = pulse_s  # not in the generator, which begins later
        return self._read_on(after + 1)

    def _read_on(self, wanted: int) -> Iterator[Event | Pause | None]:
        messages: list[str] = []
        missed = not self._is_new  # events from before the subscription, or taken by an earlier call, are in the log
        self._is_new = False
        has_yielded = False  # since the last pause
        while not self._listener.closed:
            found, has_more = self._from_log(wanted) if missed else (_events(messages), False)
            for event in found:
                if event.seq > wanted:
                    has_more = True
                    break
                if event.seq == wanted or event.type.is_terminal:
                    wanted += 1
                    has_yielded = True
                    yield event
                    if event.type.is_terminal:
                        return
            if has_more:
                missed = True
                continue
            if has_yielded:
                yield PAUSE
                has_yielded = False
            messages, missed = self._listener.take(0 if self._nudged else self.pulse_s)
            if messages or missed or self._listener.closed:
                continue  # events go first; the nudge waits
            was_nudged, self._nudged = self._nudged, False
            yield None
            missed = not was_nudged  # a quiet channel proves nothing: check the log

    def _from_log(self, first: int) -> tuple[list[Event], bool]:
        """Return a chunk of the log from `first` on, and whether the log has more."""
        try:
            with self._limiter():
                chunk = self._events.read(self._job_id, first, READ_CHUNK) or self._lost_end()
        except RedisError as err:
            self._events.outage.note_failure(_READING, err)
            return [], False
        self._events.outage.note_success(_READING)
        return chunk, len(chunk) == READ_CHUNK

    def _lost_end(self) -> list[Event]:
        """Return the terminal event if the log ends before the wanted event because Redis lost entries."""
        last = self._events.last(self._job_id)
        if last is None and not self._redis.exists(keys.job(self._job_id)):
            raise JobLost("The job store no longer has this job; send the request again.")
        return [last] if last is not None and last.type.is_terminal else []

    def nudge(self) -> None:
        """Make `events` yield None now unless an event is there, because its reader has other work to do."""
        self._nudged = True
        self._listener.nudge()

    def close(self) -> None:
        """End the subscription and wake a reader that waits in `events`. May be called from any thread."""
        self._listener.close()

    def __enter__(self) -> Follower:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _err: BaseException | None, _tb: TracebackType | None
    ) -> None:
        self.close()


def _events(messages: Iterable[str]) -> list[Event]:
    """Parse published messages, which have an event per line."""
    return [Event.from_wire(line) for message in messages for line in message.split("\n")]
