"""The publisher: which tokens it sends together."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from common.jobs.events import Event
from common.redis.outage import Outage
from worker.engine.sequence import FinishReason, SequenceOutput
from worker.jobs.active import ActiveJob, ActiveJobs, Outcome
from worker.jobs.publisher import Publisher
from worker.observation.metrics import WorkerMetrics

LONG_S = 600.0  # longer than any test


class RecordingStore:
    """Records what is sent, and notes that something was."""

    def __init__(self) -> None:
        self.sent: list[list[tuple[str, str]]] = []
        self.has_sent = threading.Event()

    def emit(self, batches: Sequence[tuple[str, int, Sequence[Event]]]) -> list[int]:
        self.sent.append([(job_id, "".join(one.data["text"] for one in batch)) for job_id, _, batch in batches])
        self.has_sent.set()
        return [batch[-1].seq + 1 for _, _, batch in batches]


def job(name: str) -> ActiveJob:
    claim: Any = SimpleNamespace(
        job=SimpleNamespace(id=name, request_id=None), attempt=1, next_seq=0, time_left_s=None, age_s=0.0
    )
    store: Any = None
    return ActiveJob(claim, store)


def token(name: str, text: str) -> SequenceOutput:
    return SequenceOutput(f"{name}/1", (1,), text, 1, 1)


def publisher_to(store: RecordingStore, jobs: ActiveJobs) -> Publisher:
    """Return a publisher whose tokens wait as long as they may."""
    unfenced: Any = None
    recording: Any = store
    outage = Outage(logging.getLogger(__name__))
    return Publisher(recording, jobs, unfenced, WorkerMetrics(lambda: None), outage, window_s=LONG_S)


def test_tokens_wait_for_others_except_the_first_of_a_job() -> None:
    store, jobs = RecordingStore(), ActiveJobs()
    publisher = publisher_to(store, jobs)
    with jobs.running(job("a")), jobs.running(job("b")):
        publisher.start()
        publisher.deliver([token("a", "1")])
        assert store.has_sent.wait(60)
        for text in "234":
            publisher.deliver([token("a", text)])
        publisher.deliver([token("b", "1")])
        publisher.deliver([token("a", "5")])
        publisher.stop()
    assert store.sent[0] == [("a", "1")]
    assert ("b", "1") in store.sent[1]
    assert "".join(text for batch in store.sent for name, text in batch if name == "a") == "12345"
    assert len(store.sent) <= 3  # "5" came in time for the second or not


def test_what_waits_is_sent_at_the_end_of_a_job() -> None:
    store, jobs = RecordingStore(), ActiveJobs()
    publisher = publisher_to(store, jobs)
    ending = job("a")
    with jobs.running(ending), jobs.running(job("b")):
        publisher.start()
        publisher.deliver([token("a", "1"), token("b", "1")])
        assert store.has_sent.wait(60)
        publisher.deliver([token("a", "2"), token("b", "2")])
        publisher.deliver([replace(token("a", "3"), finish_reason=FinishReason.STOP)])
        assert ending.wait(60)
        assert store.sent[1:] == [[("a", "2"), ("b", "2")]]
        publisher.stop()


def test_only_a_job_that_was_not_given_back_is_reported_as_fenced_off(caplog: pytest.LogCaptureFixture) -> None:
    store: Any = SimpleNamespace(emit=lambda batches: [-1] * len(batches))
    jobs, fenced = ActiveJobs(), list[ActiveJob]()
    outage = Outage(logging.getLogger(__name__))
    publisher = Publisher(store, jobs, fenced.append, WorkerMetrics(lambda: None), outage)
    given_back, taken = job("a"), job("b")
    given_back.decide(Outcome.RELEASED)
    with jobs.running(given_back), jobs.running(taken):
        publisher.start()
        publisher.deliver([token("a", "1"), token("b", "1")])
        publisher.stop()
    assert fenced == [taken]
    assert [record.getMessage() for record in caplog.records] == [
        "job b: attempt 1 was fenced off, its events were dropped"
    ]
