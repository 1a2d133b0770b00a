"""The active jobs of this worker: claimed, and neither ended nor released."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum, auto

from common.errors import Cancelled, SLMError
from common.jobs.store import Claim, JobStore
from common.observation.context import Field
from worker.engine.sequence import SequenceOutput
from worker.jobs.attempt_events import AttemptEvents


class Outcome(Enum):
    """How a worker's work on a job ends."""

    DONE = auto()  # the engine has produced the final output
    FENCED = auto()  # another attempt owns the job
    RELEASED = auto()  # given back to the queue: the worker is stopping, or others need the capacity


class ActiveJob:
    """A claimed job. Its pool thread waits here; publisher, heartbeat and drain decide its outcome."""

    def __init__(self, claim: Claim, store: JobStore) -> None:
        self.job = claim.job
        self.attempt = claim.attempt
        self.time_left_s = claim.time_left_s
        self.sequence_id = f"{claim.job.id}/{claim.attempt}"
        self.events = AttemptEvents(claim, store)
        self.final_output: SequenceOutput | None = None
        self._claimed_at = time.monotonic()
        self.waited_s = claim.age_s  # from its creation to this claim
        self._changed = threading.Condition()
        self._outcome: Outcome | None = None
        self._end_reason: SLMError | None = None

    @property
    def id(self) -> str:
        """The job's id."""
        return self.job.id

    @property
    def age_s(self) -> float:
        """Seconds since the job was created, over all attempts."""
        return self.waited_s + time.monotonic() - self._claimed_at

    @property
    def log_fields(self) -> dict[str, Field]:
        """The fields that identify the job in log lines."""
        origin: dict[str, Field] = {"request_id": self.job.request_id} if self.job.request_id else {}
        return origin | {"job_id": self.id, "attempt": self.attempt}

    @property
    def outcome(self) -> Outcome | None:
        """How the work on it ended; None while it runs."""
        return self._outcome

    @property
    def end_reason(self) -> SLMError | None:
        """Why its end was requested: `Cancelled`, or the error to fail with; None if it was not requested."""
        return self._end_reason

    @property
    def is_given_up(self) -> bool:
        """Whether no more work on it should begin."""
        return self._outcome is not None or self._end_reason is not None

    def ms_since_claim(self, at: float | None) -> float | None:
        """Return the milliseconds from the claim to a time of the monotonic clock; None for None."""
        return None if at is None else round((at - self._claimed_at) * 1000, 1)

    def decide(self, outcome: Outcome) -> None:
        """Set the job's outcome, unless it is already set."""
        with self._changed:
            if self._outcome is None:
                self._outcome = outcome
            self._changed.notify_all()

    def request_end(self, reason: SLMError) -> None:
        """Request its end, which the pool thread carries out. Only the first reason counts."""
        with self._changed:
            if self._end_reason is None:
                self._end_reason = reason
            self._changed.notify_all()

    def cancel(self) -> None:
        """Request its end, because its cancellation was requested."""
        self.request_end(Cancelled("The job was cancelled."))

    def fence(self) -> None:
        """Give it up, because another attempt owns the job."""
        self.decide(Outcome.FENCED)

    def finish(self, output: SequenceOutput) -> None:
        """Pass the engine's final output to the pool thread."""
        self.final_output = output
        self.decide(Outcome.DONE)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until it is given up; return False after `timeout_s`."""
        with self._changed:
            return self._changed.wait_for(lambda: self.is_given_up, timeout_s)

    def wait_for_outcome(self) -> Outcome:
        """Wait for the outcome."""
        with self._changed:
            self._changed.wait_for(lambda: self._outcome is not None)
        assert self._outcome is not None  # noqa: S101 - waited for
        return self._outcome


class ActiveJobs:
    """All active jobs of this worker. Thread-safe."""

    def __init__(self) -> None:
        self._by_sequence: dict[str, ActiveJob] = {}
        self._changed = threading.Condition()

    @contextmanager
    def running(self, job: ActiveJob) -> Iterator[None]:
        """Count the job as active for the duration of a `with` block."""
        with self._changed:
            self._by_sequence[job.sequence_id] = job
        try:
            yield
        finally:
            with self._changed:
                del self._by_sequence[job.sequence_id]
                self._changed.notify_all()

    def of_sequence(self, sequence_id: str) -> ActiveJob | None:
        """Return the job of an engine's output, if it is still active."""
        with self._changed:
            return self._by_sequence.get(sequence_id)

    def of_job(self, job_id: str) -> list[ActiveJob]:
        """Return the job's active attempts: none, one, or for a moment a fenced attempt and its successor."""
        return [job for job in self.all() if job.id == job_id]

    def cancel(self, job_id: str) -> None:
        """Request the end of the job's attempts, because its cancellation was requested."""
        for job in self.of_job(job_id):
            job.cancel()

    def all(self) -> list[ActiveJob]:
        """Return all active jobs."""
        with self._changed:
            return list(self._by_sequence.values())

    def wait_until_empty(self, timeout_s: float) -> bool:
        """Wait until no job is active; return False after `timeout_s`."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._by_sequence, timeout_s)
