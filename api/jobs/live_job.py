"""Follows one job for one client that streams it or waits for it."""

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
from common.jobs.event_log import PAUSE, Follower, Pause
from common.jobs.events import Event, EventType
from common.jobs.job import JobKind
from common.jobs.store import QueuePosition

WAIT_PULSE_S = 1.0  # how much longer than its timeout a wait may last while nothing happens


class LiveJob:
    """A job that a client follows. A context manager: exiting it ends the subscription and the reading, if any.

    `after` is the seq of the last event that the client has seen, and `seen` are the events up to there that the log
    still has. `present` is the number of events when the client came. `is_repeat`: an earlier request with the same
    Idempotency-Key submitted the job. `reader` is the caller who attached to an existing job of `owner`. `model` as in
    `JobRecord`.
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
        model: str,
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
        self._present = present
        self._follower = follower
        self._stream = follower.events_and_pauses(after=len(seen) - 1, pulse_s=WAIT_PULSE_S)
        self._early: list[Event | Pause] = []  # read by `early_events`, and by nothing else yet
        self._position_watch = watch
        self._reading = reading
        self._is_over = False
        self._on_close = on_close
        self.reader = reader
        self.owner = owner
        self.model = model
        self._end_reason: SLMError | None = None

    def events(self, *, pulse_s: float) -> Iterator[Event | None]:
        """Yield the events after `seen`, up to the terminal one; None after each `pulse_s` of silence.

        Raises:
            JobLost: Redis no longer has the job.
            SLMError: the reason given to `end`.
        """
        return (event for event in self._events(pulse_s) if event is not PAUSE)

    def early_events(self, *, pulse_s: float) -> Iterator[Event | None]:
        """Yield the first `events`, which are yielded again by the call of another method. Raises as `events`."""
        for event in self._unread(pulse_s):
            if event is not None:
                self._early.append(event)
            if event is not PAUSE:
                yield event

    def _events(self, pulse_s: float) -> Iterator[Event | Pause | None]:
        early, self._early = self._early, []
        yield from early
        yield from self._unread(pulse_s)

    def _unread(self, pulse_s: float) -> Iterator[Event | Pause | None]:
        self._follower.pulse_s = pulse_s
        for event in self._stream:  # not `yield from`: the stream must not end with this reading
            self._is_over = isinstance(event, Event) and event.type.is_terminal
            yield event
        if self._end_reason is not None and not self._is_over:
            raise self._end_reason

    def updates(self, *, pulse_s: float) -> Iterator[Event | QueuePosition | Pause | None]:
        """Yield the `events`, and each change of the queue position while the job is queued.

        Yields `PAUSE` after events if the next one is not there yet.
        """
        for event in self._events(pulse_s):
            if event is None:
                yield self._position_watch.take()
                continue
            if event is not PAUSE:
                self._update_watch(event)
            yield event

    def compact_event_stream(self, *, pulse_s: float) -> Iterator[Event | QueuePosition | Pause | None]:
        """Yield the `updates`, with the token events that existed when the client came merged into a few."""
        replay = Replay(self.after, self._present)
        for update in self.updates(pulse_s=pulse_s):
            yield from replay.take(update)

    def _update_watch(self, event: Event) -> None:
        if event.type is EventType.QUEUED:
            self._position_watch.begin(known=event.data["position"])
        else:
            self._position_watch.end()

    def wait(self, timeout_s: float) -> bool:
        """Wait until the job or the subscription ends; return whether `timeout_s` seconds passed without either."""
        deadline = time.monotonic() + timeout_s
        for _ in self.events(pulse_s=min(timeout_s, WAIT_PULSE_S)):
            if time.monotonic() >= deadline:
                return not self._is_over
        return False

    def raise_early_error(self, timeout_s: float) -> bool:
        """Wait for the first event; return whether it came in time.

        Raises:
            SLMError: the first event was this error.
        """
        first = next(self.early_events(pulse_s=timeout_s), None)
        if first is not None and first.type is EventType.ERROR:
            raise SLMError.from_dict(first.data)
        return first is not None

    def end(self, reason: SLMError) -> None:
        """End the subscription for a reason outside of the job; `events` then raises the reason."""
        self._end_reason = reason
        self._follower.close()

    def close(self) -> None:
        """End the subscription, and the iteration of a reader. May be called twice and from any thread."""
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
