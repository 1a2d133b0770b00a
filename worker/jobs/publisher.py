"""Appends the engine's outputs to the jobs' logs: one round trip to Redis for all of them, on its own thread.

Redis and the API need less time for a few tokens of a job at once than for one after the other, so the tokens of
steps that follow each other quickly are sent together (`pace.py`).
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
from worker.jobs.pace import WINDOW_S, Pace
from worker.observation.metrics import WorkerMetrics

RETRY_S = 0.2  # pause before an append is tried again while Redis does not answer
_WRITING = "events not written"

log = logging.getLogger(__name__)


class Publisher:
    """Appends token events and passes final outputs on to the jobs' threads.

    While Redis is away, events wait here in order, and the generations continue. `on_fenced` is called with a job if
    another attempt owns it now. The tokens that wait when a job is released are dropped: the next attempt computes them
    again.
    """

    def __init__(
        self,
        store: JobStore,
        jobs: ActiveJobs,
        on_fenced: Callable[[ActiveJob], None],
        metrics: WorkerMetrics,
        outage: Outage,
        window_s: float = WINDOW_S,
    ) -> None:
        self._pace = Pace(window_s)
        self._is_urgent = False  # an unsent token is the first of its job, or a job has ended
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
        return 0.0 if self._is_urgent else self._pace.due_in_s(time.monotonic())

    def _collect_waiting(self) -> bool:
        stopping = False
        while not self._inbox.empty():
            stopping = self._take(self._inbox.get()) or stopping
        return stopping

    def _take(self, step: tuple[float, list[SequenceOutput]] | None) -> bool:
        """Sort one step's outputs into tokens and final outputs; return True for None, the request to end."""
        if step is None:
            return True
        at, outputs = step
        self._pace.note_step(at)
        for output in outputs:
            self._metrics.note_output(output, at)
            job = self._jobs.of_sequence(output.sequence_id)
            if job is None:
                continue
            if output.finish_reason is not None:
                self._finals.append((job, output))
                self._is_urgent = True
            else:
                self._is_urgent = self._is_urgent or not job.events.token_ids
                self._unsent.setdefault(job, []).append(job.events.token(output))
        return False

    def _flush(self) -> bool:
        """Append everything that waits; return False if Redis did not accept it."""
        unsent = list(self._unsent.items())
        self._pace.note_sending(time.monotonic())
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
        self._is_urgent = False
        return True

    def _pass_finals_on(self) -> None:
        for job, output in self._finals:
            job.finish(output)
        self._finals.clear()
