"""Handles a wake-up message: claims the job, runs it, and records how it ended."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from redis.exceptions import RedisError

from common.errors import Cancelled, InternalError, JobTimeout, SLMError
from common.jobs.job import JobKind, JobState
from common.jobs.store import Fenced, JobStore, LogGap
from common.observation import context
from common.observation.logs import fields
from worker.helper.given_up import GivenUp
from worker.jobs.active import ActiveJob, ActiveJobs, Outcome

_UNRECORDED = "job %s: Redis does not answer (%s); another attempt continues the job after its lease has expired"

log = logging.getLogger(__name__)

RunJob = Callable[[ActiveJob], None]


class JobRunner:
    """Runs the job of each wake-up message.

    Args:
        run: for each kind, the function that runs a claimed job.
        prepare: runs first if the job needs preparation.
    """

    def __init__(
        self,
        store: JobStore,
        jobs: ActiveJobs,
        run: Mapping[JobKind, RunJob],
        prepare: RunJob,
        *,
        worker_id: str,
        lease_s: float,
    ):
        self._store = store
        self._jobs = jobs
        self._run = run
        self._prepare = prepare
        self._worker_id = worker_id
        self._lease_s = lease_s

    def handle_message(self, job_id: str, *, draining: bool) -> None:
        """Claim and run the job if it waits; otherwise it has ended, or another worker was faster.

        A worker that is draining releases the job to the queue.
        """
        claim = self._store.claim(job_id, self._worker_id, lease_s=self._lease_s)
        if claim is None:
            log.info("job %s: nothing to do", job_id, extra=fields(job_id=job_id))
            return
        job = ActiveJob(claim, self._store)
        with context.bound(**job.log_fields):
            self._run_claimed(job, draining=draining)

    def _run_claimed(self, job: ActiveJob, *, draining: bool) -> None:
        if draining:
            job.decide(Outcome.RELEASED)
            with _boundary(job):
                self._record_end(job, None)
            return
        with self._jobs.running(job), _time_limit(job), _boundary(job):
            self._record_end(job, self._failure_of(job))
        log.info("job %s: attempt %d ended", job.id, job.attempt)

    def _failure_of(self, job: ActiveJob) -> SLMError | None:
        """Run the job; return the error that it fails with, if any. An error in one job does not affect others."""
        try:
            (self._run[job.job.kind] if job.job.is_prepared else self._prepare)(job)
        except GivenUp:
            if not job.is_given_up:  # its model was unloaded meanwhile
                job.decide(Outcome.RELEASED)
        except SLMError as err:
            return err
        except (Fenced, LogGap, RedisError):
            raise
        except Exception:
            log.exception("job %s: failed", job.id)
            return InternalError("The generation failed inside the server; its log has the details.")
        return None

    def _record_end(self, job: ActiveJob, failure: SLMError | None) -> None:
        """Record the job's end. The job itself has recorded DONE, and a FENCED job belongs to another attempt."""
        if failure is not None:
            self._fail(job, failure)
        elif job.outcome is Outcome.RELEASED:
            self._store.release(job.id, job.attempt)
        elif job.outcome is None and isinstance(job.end_reason, Cancelled):
            end = job.events.finished(JobState.CANCELLED, "cancelled")
            self._store.end_cancelled(job.id, job.attempt, None, [end])
        elif job.outcome is None and job.end_reason is not None:
            self._fail(job, job.end_reason)

    def _fail(self, job: ActiveJob, failure: SLMError) -> None:
        self._store.fail(job.id, job.attempt, [job.events.error(failure)])


@contextmanager
def _boundary(job: ActiveJob) -> Iterator[None]:
    """Ignore a write that no longer matters, or that fails because the process ends."""
    try:
        yield
    except (Fenced, LogGap):
        log.warning("job %s: attempt %d was fenced off", job.id, job.attempt)
    except RedisError as err:
        log.warning(_UNRECORDED, job.id, err)


@contextmanager
def _time_limit(job: ActiveJob) -> Iterator[None]:
    """Request the job's end after the time that its client allows."""
    if job.time_left_s is None:
        yield
        return
    late = JobTimeout(f"The job ran longer than its timeout of {(job.job.timeout_ms or 0) / 1000:g} s.")
    timer = threading.Timer(job.time_left_s, job.request_end, [late])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
