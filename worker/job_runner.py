"""From a bell to the end of a job: claim it, hold it, run it, and leave it in a state that is true."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from redis.exceptions import RedisError

from common import events
from common.errors import InternalError, SLMError
from common.job_store import Fenced, JobStore, LogGap
from common.jobs import JobState, Lane
from worker.held_jobs import Fate, HeldJob, HeldJobs
from worker.model_keeper import GivenUp

log = logging.getLogger(__name__)

RunJob = Callable[[HeldJob], None]


class JobRunner:
    """Answers the bells. `run` holds, per lane, what is done with a claimed job."""

    def __init__(self, store: JobStore, jobs: HeldJobs, run: Mapping[Lane, RunJob], *, worker_id: str, lease_s: float):
        self._store = store
        self._jobs = jobs
        self._run = run
        self._worker_id = worker_id
        self._lease_s = lease_s

    def answer_bell(self, job_id: str, *, draining: bool) -> None:
        """Take the job up if it waits; otherwise there is nothing to do (it ended, or another worker was faster).

        A bell that reaches a worker which is about to end is answered by handing the job on.
        """
        claim = self._store.claim(job_id, self._worker_id, lease_s=self._lease_s)
        if claim is None:
            log.info("job %s: nothing to do", job_id)
            return
        job = HeldJob(claim, self._store)
        if draining:
            job.decide(Fate.HANDED_OVER)
            self._let_go(job)
            return
        with self._jobs.holding(job):
            self._run_to_an_end(job)
        log.info("job %s: attempt %d ended", job.id, job.attempt)

    def _run_to_an_end(self, job: HeldJob) -> None:
        """A boundary: whatever goes wrong in a job becomes its recorded error and touches no other job."""
        try:
            self._run[job.job.kind.lane](job)
        except SLMError as err:
            self._fail(job, err)
        except (Fenced, LogGap):
            log.warning("job %s: attempt %d was fenced off", job.id, job.attempt)
        except GivenUp:
            self._let_go(job)
        except RedisError as err:
            log.warning("job %s: Redis does not answer (%s); the job goes on when its lease has run out", job.id, err)
        except Exception:
            log.exception("job %s: failed", job.id)
            self._fail(job, InternalError("The generation failed inside the server; its log has the details."))
        else:
            self._let_go(job)

    def _let_go(self, job: HeldJob) -> None:
        """Do what the job's fate asks for. DONE was recorded by the job itself, and LOST is no longer ours."""
        try:
            if job.fate is Fate.HANDED_OVER:
                self._store.release(job.id, job.attempt)
            elif job.fate is Fate.CANCELLED:
                end = events.finished(job.take_seq(), JobState.CANCELLED, "cancelled")
                self._store.end_cancelled(job.id, job.attempt, {}, [end])
        except (Fenced, LogGap):
            log.warning("job %s: attempt %d was fenced off", job.id, job.attempt)

    def _fail(self, job: HeldJob, err: SLMError) -> None:
        try:
            self._store.fail(job.id, job.attempt, [events.error(job.take_seq(), err)])
        except (Fenced, LogGap):
            log.warning("job %s: attempt %d was fenced off", job.id, job.attempt)
