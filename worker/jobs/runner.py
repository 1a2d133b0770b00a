"""From a wake-up message to the end of a job: claim it, hold it, run it, and leave it in a state that is true."""

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

_LEFT = "job %s: Redis does not answer (%s); the job goes on when its lease has run out"

log = logging.getLogger(__name__)

RunJob = Callable[[ActiveJob], None]


class JobRunner:
    """Runs the job of each wake-up message.

    Args:
        run: by kind, runs a claimed job; `prepare` runs first if the job needs it.
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
        """Take the job up if it waits; otherwise there is nothing to do (it ended, or another worker was faster).

        A wake-up message that reaches a worker which is about to end is answered by handing the job on.
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
                self._leave(job, None)
            return
        with self._jobs.running(job), _time_limit(job), _boundary(job):
            self._leave(job, self._failure_of(job))
        log.info("job %s: attempt %d ended", job.id, job.attempt)

    def _failure_of(self, job: ActiveJob) -> SLMError | None:
        """Run the job; returns the error that it is to end with. Whatever goes wrong in a job touches no other job."""
        try:
            (self._run[job.job.kind] if job.job.is_prepared else self._prepare)(job)
        except GivenUp:
            if not job.is_given_up:  # what it needed was closed under it
                job.decide(Outcome.RELEASED)
        except SLMError as err:
            return err
        except (Fenced, LogGap, RedisError):
            raise
        except Exception:
            log.exception("job %s: failed", job.id)
            return InternalError("The generation failed inside the server; its log has the details.")
        return None

    def _leave(self, job: ActiveJob, failure: SLMError | None) -> None:
        """Write what becomes of the job. DONE was recorded by the job itself, and LOST is no longer ours."""
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
    """A write that no longer matters, or cannot be made because the process ends, is left out."""
    try:
        yield
    except (Fenced, LogGap):
        log.warning("job %s: attempt %d was fenced off", job.id, job.attempt)
    except RedisError as err:
        log.warning(_LEFT, job.id, err)


@contextmanager
def _time_limit(job: ActiveJob) -> Iterator[None]:
    """Ask for the job's end when it has run for as long as its client allows."""
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
