"""A worker without a model that runs many generations at the same time and writes the time into their tokens."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.synchronize import Event as Signal
from typing import cast

from redis import Redis

from common.fleet import Fleet, WorkerReport, WorkerState
from common.jobs import events
from common.jobs.events import Event
from common.jobs.job import GenerateResult, JobState, Lane
from common.jobs.store import Claim, JobStore
from common.redis import keys
from common.redis.client import connect

LEASE_S = 600.0  # longer than any run: nothing needs to be renewed
LOOK_S = 0.01
DEVICE = "cpu"


@dataclass(frozen=True)
class Load:
    """The load: `tokens` for each of `streams` jobs, in batches of `rows`, each with `rate` steps per second."""

    streams: int
    tokens: int
    rate: float
    rows: int


@dataclass(frozen=True)
class Signals:
    """What the worker sets when it can claim jobs (`ready`), and waits for before its first and its last tokens."""

    ready: Signal
    begin: Signal
    end: Signal


def work(redis_url: str, load: Load, signals: Signals) -> None:
    """Run the worker's process: claim all jobs, and generate."""
    with connect(redis_url) as redis:
        worker = FakeWorker(redis, load)
        signals.ready.set()
        generations = worker.take_all()
        signals.begin.wait()
        worker.generate(generations, range(load.tokens - 1))
        signals.end.wait()
        worker.generate(generations, [load.tokens - 1])


class Generation:
    """One claimed job."""

    def __init__(self, claim: Claim) -> None:
        self.job_id = claim.job.id
        self.attempt = claim.attempt
        self._seq = itertools.count(claim.next_seq)
        self._num_tokens = 0
        self._text = ""

    def status(self) -> Event:
        """Return the first event of a stream."""
        return events.status(next(self._seq), "Generating response...")

    def token(self, *, is_last: bool = False) -> Event:
        """Return the next token's event: its text is its number and the time."""
        piece = f"{self._num_tokens}@{time.monotonic_ns()} "
        self._text += piece
        self._num_tokens += 1
        return events.token(next(self._seq), piece, [self._num_tokens], is_last=is_last)

    def finished(self) -> Event:
        """Return the last event."""
        return events.finished(next(self._seq), JobState.SUCCEEDED, "length", DEVICE)

    def result(self) -> GenerateResult:
        """Return the result for the job's record."""
        return GenerateResult(
            response=self._text.strip(),
            full_response=self._text,
            finish_reason="length",
            device=DEVICE,
            prompt_tokens=1,
            completion_tokens=self._num_tokens,
            first_token_ms=None,
        )


class FakeWorker:
    """Claims jobs and writes events like a real worker; computes nothing."""

    def __init__(self, redis: Redis, load: Load) -> None:
        self._redis = redis
        self._load = load
        self._store = JobStore(redis, lambda _wake_ups: None, job_ttl_s=600)
        slots = 2 * load.streams  # all streams have one owner, who may not have all places
        self._report = WorkerReport(
            id="fake", host="localhost", pid=0, state=WorkerState.READY, device=DEVICE, slots=slots
        )
        Fleet(redis).beat(self._report, ttl_s=LEASE_S)

    def take_all(self) -> list[Generation]:
        """Claim jobs as they arrive, until there is one for each stream of the load."""
        taken: list[Generation] = []
        while len(taken) < self._load.streams:
            time.sleep(LOOK_S)
            for job_id in cast(list[str], self._redis.zrange(keys.dispatched(Lane.GENERATE), 0, -1)):
                if claim := self._store.claim(job_id, self._report.id, lease_s=LEASE_S):
                    taken.append(Generation(claim))
                    self._write([taken[-1]], [taken[-1].status()])
        return taken

    def generate(self, generations: Sequence[Generation], steps: Sequence[int]) -> None:
        """Generate the tokens of these steps, which are evenly spaced in time; a late one is made immediately."""
        rows = self._load.rows
        batches = [generations[first : first + rows] for first in range(0, len(generations), rows)]
        begun = time.monotonic()
        for elapsed, step in enumerate(steps):
            for number, batch in enumerate(batches):
                due = begun + (elapsed + number / len(batches)) / self._load.rate
                time.sleep(max(0.0, due - time.monotonic()))
                self._step(batch, is_last=step == self._load.tokens - 1)

    def _step(self, batch: Sequence[Generation], *, is_last: bool) -> None:
        if is_last:
            for one in batch:
                last = [one.token(is_last=True), one.finished()]
                self._store.succeed(one.job_id, one.attempt, one.result().to_dict(), last)
        else:
            self._write(batch, [one.token() for one in batch])

    def _write(self, batch: Sequence[Generation], written: Sequence[Event]) -> None:
        self._store.emit([(one.job_id, one.attempt, [event]) for one, event in zip(batch, written, strict=True)])
