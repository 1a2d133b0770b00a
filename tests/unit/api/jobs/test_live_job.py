"""Following one job: each reading has its own pulse, and the first events can be looked at before the rest is read."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from api.jobs.live_job import LiveJob
from common.jobs import events
from common.jobs.event_log import Follower
from common.jobs.events import Event
from common.jobs.job import JobKind, JobState

STATUS, TOKEN, END = events.status(0, "..."), events.token(1, "Hi", [1]), events.finished(2, JobState.SUCCEEDED)


def wire(event: Event) -> str:
    return json.dumps({"data": event.data, "type": event.type, "id": str(event.seq)})


class Mailbox:
    """Has one event for each reading, and notes for how long the reader would have waited."""

    closed = False

    def __init__(self, *messages: Event) -> None:
        self.waits: list[float] = []
        self._messages = list(messages)

    def take(self, timeout_s: float) -> tuple[list[str], bool]:
        self.waits.append(timeout_s)
        return [wire(self._messages.pop(0))], False


def live_job(mailbox: Mailbox) -> LiveJob:
    nothing: Any = None
    listener: Any = mailbox
    on_close: Callable[[LiveJob], None] = nothing
    follower = Follower("j", nothing, nothing, listener, nothing, is_new=True)
    watch: Any = SimpleNamespace(begin=lambda known: known, end=lambda: None)
    return LiveJob("j", JobKind.STREAM, follower, watch, on_close, owner="o", model="m")


def test_each_reading_has_its_own_pulse() -> None:
    mailbox = Mailbox(STATUS, TOKEN, END)
    job = live_job(mailbox)
    assert next(job.early_events(pulse_s=2.0)) == STATUS
    assert list(job.events(pulse_s=7.0)) == [STATUS, TOKEN, END]
    assert mailbox.waits == [2.0, 7.0, 7.0]


def test_early_events_are_yielded_again_and_only_once() -> None:
    job = live_job(Mailbox(STATUS, TOKEN, END))
    early = job.early_events(pulse_s=1.0)
    assert [next(early), next(early)] == [STATUS, TOKEN]
    assert [one for one in job.updates(pulse_s=1.0) if isinstance(one, Event)] == [STATUS, TOKEN, END]
    assert list(job.events(pulse_s=1.0)) == []
