"""A worker without a model that runs many generations at the same time and writes the time into their tokens."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.synchronize import Event as Signal
from typing import cast

from redis import Redis

from common.fleet import Fleet, WorkerReport, WorkerState
from common.jobs.events import Event
from common.jobs.job import GenerateResult, JobState, Lane
from common.jobs.store import Claim, JobStore
from common.redis import keys
from common.redis.client import connect
from common.redis.outage import Outage
from worker.engine.sequence import FinishReason, SequenceOutput
from worker.jobs.active import ActiveJob, ActiveJobs
from worker.jobs.publisher import Publisher
from worker.observation.metrics import WorkerMetrics

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
        with worker.taking_all(signals.begin) as generations:
            signals.begin.wait()
            worker.generate(generations, range(load.tokens - 1))
            signals.end.wait()
            worker.generate(generations, [load.tokens - 1])


class Generation:
    """One claimed job."""

    def __init__(self, claim: Claim, store: JobStore) -> None:
        self.job = ActiveJob(claim, store)
        self._num_tokens = 0
        self._text = ""

    def token(self, *, is_last: bool = False) -> SequenceOutput:
        """Return the next token: its text is its number and the time."""
        piece = f"{self._num_tokens}@{time.monotonic_ns()} "
        self._text += piece
        self._num_tokens += 1
        reason = FinishReason.LENGTH if is_last else None
        return SequenceOutput(self.job.sequence_id, (self._num_tokens,), piece, 1, self._num_tokens, reason)

    def last_events(self) -> list[Event]:
        """Return the events of its end, which the publisher has passed on."""
        self.job.wait_for_outcome()
        assert self.job.final_output is not None  # noqa: S101 - the publisher sets it with the outcome
        token = self.job.events.token(self.job.final_output, is_last=True)
        return [token, self.job.events.finished(JobState.SUCCEEDED, "length", DEVICE)]

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
    """Claims jobs and publishes tokens like a real worker, with its publisher; computes nothing."""

    def __init__(self, redis: Redis, load: Load) -> None:
        self._redis = redis
        self._load = load
        self._store = JobStore(redis, lambda _wake_ups: None, job_ttl_s=600)
        self._jobs = ActiveJobs()
        self._publisher = Publisher(
            self._store, self._jobs, _fail, WorkerMetrics(lambda: None), Outage(logging.getLogger(__name__))
        )
        self._publisher.start()
        slots = 2 * load.streams  # all streams have one owner, who may not have all places
        self._report = WorkerReport(
            id="fake", host="localhost", pid=0, state=WorkerState.READY, device=DEVICE, slots=slots
        )
        Fleet(redis).beat(self._report, ttl_s=LEASE_S)

    @contextmanager
    def taking_all(self, begin: Signal) -> Iterator[list[Generation]]:
        """Claim jobs as they arrive, until there is one for each stream of the load, or no more will come."""
        taken: list[Generation] = []
        with ExitStack() as running:
            while len(taken) < self._load.streams and not begin.is_set():
                time.sleep(LOOK_S)
                for job_id in cast(list[str], self._redis.zrange(keys.dispatched(Lane.GENERATE), 0, -1)):
                    if claim := self._store.claim(job_id, self._report.id, lease_s=LEASE_S):
                        taken.append(Generation(claim, self._store))
                        running.enter_context(self._jobs.running(taken[-1].job))
                        taken[-1].job.events.announce("Generating response...")
            yield taken

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
        self._publisher.deliver([one.token(is_last=is_last) for one in batch])
        if is_last:
            for one in batch:
                self._store.succeed(one.job.id, one.job.attempt, one.result().to_dict(), one.last_events())


def _fail(job: ActiveJob) -> None:
    raise RuntimeError(f"job {job.id} has another worker")
