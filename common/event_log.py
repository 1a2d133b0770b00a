"""Reading a job's events: what is in the log already, then what comes, without a gap and without a double."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from types import TracebackType
from typing import cast

from redis import Redis
from redis.exceptions import RedisError

from common import keys
from common.errors import JobLost
from common.events import Event
from common.owned import Turn
from common.subscriber import Listener, Subscriber

READ_CHUNK = 512  # events per read: what a slow reader's catching up holds in memory, and others wait for
_READING = "event log not read"


class EventLog:
    """The event logs of all jobs, for reading."""

    def __init__(self, redis: Redis, subscriber: Subscriber) -> None:
        self.outage = subscriber.outage
        self._redis = redis
        self._subscriber = subscriber

    def read(self, job_id: str, first: int = 0, limit: int | None = None) -> list[Event]:
        """The events from seq `first` on, at most `limit`, as far as they are written."""
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
        """How many events are written."""
        return int(self._redis.llen(keys.log(job_id)))

    def last(self, job_id: str) -> Event | None:
        """The last event that is written; None if there is none."""
        message = cast("str | None", self._redis.lindex(keys.log(job_id), -1))
        return None if message is None else Event.from_wire(message)

    def follow(self, job_id: str, turn: Turn = nullcontext) -> Follower:
        """Subscribe to a job, which may not exist yet.

        Args:
            job_id: the job.
            turn: held while its log is read; what pub/sub brings needs none.

        Raises:
            RedisUnavailable: Redis does not confirm the subscription.
        """
        return Follower(job_id, self._redis, self, self._subscriber.listen(keys.channel(job_id)), turn)


class Follower:
    """A subscription to one job. A context manager: leaving it ends the subscription."""

    def __init__(self, job_id: str, redis: Redis, events: EventLog, listener: Listener, turn: Turn) -> None:
        self._job_id = job_id
        self._redis = redis
        self._events = events
        self._listener = listener
        self._turn = turn
        self._nudged = False

    def events(self, *, after: int = -1, pulse_s: float) -> Iterator[Event | None]:
        """The events behind seq `after`, each once and in order, up to the terminal one.

        Yields None when nothing came for `pulse_s` seconds, and when it was nudged. Ends early when the follower is
        closed. While Redis is away it goes on with pulses, and then from where it was. If Redis has lost events up to
        `after` or beyond, it waits for those that follow them; if the job ends before, it yields the terminal event.

        Raises:
            JobLost: Redis no longer has the job.
        """
        wanted = after + 1
        messages: list[str] = []
        missed = True  # what was written before the subscription is in the log only
        while not self._listener.closed:
            batch, behind = self._from_log(wanted) if missed else ([Event.from_wire(text) for text in messages], False)
            for event in batch:
                if event.seq > wanted:
                    behind = True
                    break
                if event.seq == wanted or event.type.is_terminal:
                    wanted += 1
                    yield event
                    if event.type.is_terminal:
                        return
            if behind:
                missed = True
                continue
            messages, missed = self._listener.take(0 if self._nudged else pulse_s)
            if messages or missed or self._listener.closed:
                continue  # what happened goes before what the reader was nudged for, which waits
            was_nudged, self._nudged = self._nudged, False
            yield None
            missed = not was_nudged  # a quiet channel proves nothing: look into the log

    def _from_log(self, first: int) -> tuple[list[Event], bool]:
        """A chunk of the log from `first` on, and whether more is waiting there."""
        try:
            with self._turn():
                chunk = self._events.read(self._job_id, first, READ_CHUNK) or self._lost_end()
        except RedisError as err:
            self._events.outage.note_failure(_READING, err)
            return [], False
        self._events.outage.note_success(_READING)
        return chunk, len(chunk) == READ_CHUNK

    def _lost_end(self) -> list[Event]:
        """The terminal event, if the log ends before the wanted event because Redis has lost what was there."""
        last = self._events.last(self._job_id)
        if last is None and not self._redis.exists(keys.job(self._job_id)):
            raise JobLost("The job store no longer has this job; send the request again.")
        return [last] if last is not None and last.type.is_terminal else []

    def nudge(self) -> None:
        """Have `events` yield None now if nothing else comes: its reader has something to look at."""
        self._nudged = True
        self._listener.nudge()

    def close(self) -> None:
        """End the subscription; whoever waits in `events` is let go. May be called from any thread."""
        self._listener.close()

    def __enter__(self) -> Follower:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _err: BaseException | None, _tb: TracebackType | None
    ) -> None:
        self.close()
