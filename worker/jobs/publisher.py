"""Appends the engine's outputs to the jobs' logs: one round trip to Redis for all of them, on its own thread.

Redis and the API need less time for a few tokens of a job at once than for one after the other, so the tokens of
steps that follow each other quickly are sent together.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from redis.exceptions import RedisError

from common.jobs.events import Event
from common.jobs.store import JobStore
from common.observation.logs import fields
from common.redis.outage import Outage
from worker.engine.sequence import SequenceOutput
from worker.jobs.active import ActiveJob, ActiveJobs, Outcome
from worker.observation.metrics import WorkerMetrics

RETRY_S = 0.2  # pause before an append is tried again while Redis does not answer
PACE_PER_JOB_S = 0.0005  # an API process needs about 0.1 ms of that to pass on what came for one job
MAX_PACE_S = 0.02  # so that nobody sees that tokens waited
_WRITING = "events not written"

log = logging.getLogger(__name__)


def pace_s(num_jobs: int) -> float:
    """Return how long after the last tokens those of that many jobs are sent; a job's first one does not wait."""
    return min(PACE_PER_JOB_S * num_jobs, MAX_PACE_S)


class Publisher:
    """Appends token events and passes final outputs on to the jobs' threads.

    While Redis is away, events wait here in order, and the generations continue. `on_fenced` is called with a job if
    another attempt owns it now. `pace` as `pace_s`. The tokens that wait when a job is released are dropped: the next
    attempt computes them again.
    """

    def __init__(
        self,
        store: JobStore,
        jobs: ActiveJobs,
        on_fenced: Callable[[ActiveJob], None],
        metrics: WorkerMetrics,
        outage: Outage,
        pace: Callable[[int], float] = pace_s,
    ) -> None:
        self._pace = pace
        self._sent_at = 0.0
        self._has_first = False  # some of the unsent tokens are the first of their job
        self._outage = outage
        self._metrics = metrics
        self._store = store
        self._jobs = jobs
        self._on_fenced = on_fenced
        self._inbox: queue.SimpleQueue[tuple[float, list[SequenceOutput]] | None] = queue.SimpleQueue()
        self._unsent: dict[ActiveJob, list[Event]] = {}
        self._finals: list[tuple[ActiveJob, SequenceOutput]] = []
        self._thread = threading.Thread(target=self._run, name="slm-publisher", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Publish the remaining events and end; a later attempt generates again what Redis does not accept now."""
        self._inbox.put(None)
        self._thread.join()

    def deliver(self, outputs: list[SequenceOutput]) -> None:
        """Accept one step's outputs; called by the engine's thread, never waits."""
        self._inbox.put((time.monotonic(), outputs))

    def _run(self) -> None:
        stopping = False
        while not stopping:
            stopping = self._collect()
            while not self._flush() and not stopping:
                time.sleep(RETRY_S)
                stopping = self._collect_waiting()
            self._pass_finals_on()

    def _collect(self) -> bool:
        """Wait for outputs, take all that come until they are due, and return whether the end was requested."""
        stopping = self._take(self._inbox.get())
        with suppress(queue.Empty):
            while not stopping and (left_s := self._due_in_s()) > 0:
                stopping = self._take(self._inbox.get(timeout=left_s))
        return self._collect_waiting() or stopping

    def _due_in_s(self) -> float:
        if self._has_first:
            return 0.0
        return self._sent_at + self._pace(len(self._unsent)) - time.monotonic()

    def _collect_waiting(self) -> bool:
        stopping = False
        while not self._inbox.empty():
            stopping = self._take(self._inbox.get()) or stopping
        return stopping

    def _take(self, step: tuple[float, list[SequenceOutput]] | None) -> bool:
        """Sort one step's outputs into tokens and final outputs; return True for None, the request to end."""
        at, outputs = step or (0.0, [])
        for output in outputs:
            self._metrics.note_output(output, at)
            job = self._jobs.of_sequence(output.sequence_id)
            if job is None:
                continue
            if output.finish_reason is not None:
                self._finals.append((job, output))
            else:
                self._has_first = self._has_first or not job.events.token_ids
                self._unsent.setdefault(job, []).append(job.events.token(output))
        return step is None

    def _flush(self) -> bool:
        """Append everything that waits; return False if Redis did not accept it."""
        unsent = list(self._unsent.items())
        self._sent_at = time.monotonic()
        try:
            next_seqs = self._store.emit([(job.id, job.attempt, batch) for job, batch in unsent]) if unsent else []
        except RedisError as err:
            self._outage.note_failure(_WRITING, err)
            return False
        self._outage.note_success(_WRITING)
        for (job, _), next_seq in zip(unsent, next_seqs, strict=True):
            if next_seq < 0 and job.outcome is not Outcome.RELEASED:
                log.warning(
                    "job %s: attempt %d was fenced off, its events were dropped",
                    job.id,
                    job.attempt,
                    extra=fields(**job.log_fields),
                )
                self._on_fenced(job)
        self._unsent.clear()
        self._has_first = False
        return True

    def _pass_finals_on(self) -> None:
        for job, output in self._finals:
            job.finish(output)
        self._finals.clear()
