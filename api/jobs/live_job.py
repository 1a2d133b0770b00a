"""A job and a subscription to it: what one client that waits or reads along holds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType

from api.auth.caller import Caller
from api.jobs.queue_position import PositionWatch
from api.jobs.readers import Reading
from api.jobs.replay import Replay
from common.errors import SLMError
from common.jobs import events
from common.jobs.event_log import Follower
from common.jobs.events import Event, EventType
from common.jobs.job import JobKind
from common.jobs.store import QueuePosition

WAIT_PULSE_S = 1.0  # how far a wait may go beyond its end while nothing happens


class LiveJob:
    """A followed job. A context manager: leaving it ends the subscription, and the reading where there is one.

    `after` is the last event that the client has seen, and `seen` those up to there that the log still has. `present`
    is the number of events when it came. `is_repeat`: the job was entered by an earlier request, under the same
    Idempotency-Key. `reader` is who came to read a job of `owner` that was there already.
    """

    def __init__(
        self,
        job_id: str,
        kind: JobKind,
        follower: Follower,
        watch: PositionWatch,
        on_close: Callable[[LiveJob], None],
        *,
        owner: str,
        reader: Caller | None = None,
        seen: Sequence[Event] = (),
        after: int = -1,
        present: int = 0,
        reading: Reading | None = None,
        is_repeat: bool = False,
    ) -> None:
        self.id = job_id
        self.is_repeat = is_repeat
        self.kind = kind
        self.text = events.committed(seen)[1]
        self.after = after
        self._num_seen = len(seen)
        self._present = present
        self._follower = follower
        self._position_watch = watch
        self._reading = reading
        self._is_over = False
        self._on_close = on_close
        self.reader = reader
        self.owner = owner
        self._end_reason: SLMError | None = None

    def events(self, *, pulse_s: float) -> Iterator[Event | None]:
        """The events behind `seen`, up to the terminal one; None after each `pulse_s` of silence.

        Raises:
            JobLost: Redis no longer has the job.
            SLMError: what `end` was called with.
        """
        for event in self._follower.events(after=self._num_seen - 1, pulse_s=pulse_s):
            self._is_over = event is not None and event.type.is_terminal
            yield event
        if self._end_reason is not None and not self._is_over:
            raise self._end_reason

    def story(self, *, pulse_s: float) -> Iterator[Event | QueuePosition | None]:
        """As `events`; and while the job is queued, each queue position that differs from the last one told."""
        for event in self.events(pulse_s=pulse_s):
            if event is None:
                yield self._position_watch.take()
            else:
                self._heed(event)
                yield event

    def digest(self, *, pulse_s: float) -> Iterator[Event | QueuePosition | None]:
        """As `story`; the token events that were there when the client came are merged into few."""
        replay = Replay(self.after, self._present)
        for news in self.story(pulse_s=pulse_s):
            yield from replay.take(news)

    def _heed(self, event: Event) -> None:
        if event.type is EventType.QUEUED:
            self._position_watch.begin(known=event.data["position"])
        else:
            self._position_watch.end()

    def wait(self, timeout_s: float) -> bool:
        """Wait for the job's end or the client's; returns whether `timeout_s` seconds have passed without either."""
        deadline = time.monotonic() + timeout_s
        for _ in self.events(pulse_s=min(timeout_s, WAIT_PULSE_S)):
            if time.monotonic() >= deadline:
                return not self._is_over
        return False

    def raise_early_error(self, timeout_s: float) -> bool:
        """Wait for the first event; returns whether it has come in time.

        Raises:
            SLMError: the job failed with its first event, before there was anything to show.
        """
        first = next(self.events(pulse_s=timeout_s), None)
        if first is not None and first.type is EventType.ERROR:
            raise SLMError.from_dict(first.data)
        return first is not None

    def end(self, reason: SLMError) -> None:
        """End the subscription because of something that the job has no part in; who reads the events is told."""
        self._end_reason = reason
        self._follower.close()

    def close(self) -> None:
        """End the subscription; whoever reads the events is let go. May be called twice and from any thread."""
        self._on_close(self)
        self._follower.close()
        self._position_watch.end()
        if self._reading is not None:
            self._reading.leave(is_over=self._is_over)

    def __enter__(self) -> LiveJob:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _err: BaseException | None, _tb: TracebackType | None
    ) -> None:
        self.close()
