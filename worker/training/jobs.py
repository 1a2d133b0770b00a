"""Runs training and evaluation jobs: each attempt computes in a child process, whose messages become events."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

from common.errors import InvalidRequest, NotFound, SLMError, TrainingFailed
from common.jobs.job import JobKind, JobState
from common.jobs.store import JobStore
from common.owners.files import FileStore
from worker.helper.given_up import GivenUp
from worker.jobs.active import ActiveJob, Outcome
from worker.training.folders import RunFolders
from worker.training.metrics import TrainerMetrics
from worker.training.process import CHILD, ChildProcess, Message
from worker.training.task import DATASET, VALIDATION, Kind, Task

POLL_S = 0.2  # how soon a request to stop reaches the child
PUBLISHING = "Publishing the new version..."


class TrainingJobs:
    """Runs one claimed job.

    Args:
        store: the jobs.
        files: the datasets.
        folders: the runs' folders.
        metrics: counts what happens.
        stop_s: how long a child may take to end after it was asked to; it is killed then, and a later attempt
            continues from the last checkpoint.
        program: the child's (`ChildProcess`).
    """

    def __init__(
        self,
        store: JobStore,
        files: FileStore,
        folders: RunFolders,
        metrics: TrainerMetrics,
        *,
        stop_s: float,
        program: Sequence[str] = CHILD,
    ) -> None:
        self._store = store
        self._files = files
        self._folders = folders
        self._metrics = metrics
        self._stop_s = stop_s
        self._program = program
        self._pausing = threading.Event()

    def pause(self) -> None:
        """Have the present run set aside after its current step; may be called from any thread."""
        self._pausing.set()

    def run(self, job: ActiveJob) -> None:
        """Run the job to its end, or until it is given up or paused.

        Raises:
            SLMError: the job fails with it.
            GivenUp: the job was given up.
            Fenced: another attempt owns the job.
        """
        self._pausing.clear()
        if self._store.is_to_pause(job.id):
            self._pausing.set()
        self._metrics.begin()
        try:
            result = self._computed(job)
        except SLMError:
            self._end(job, "failed")
            raise
        if result is not None:
            self._succeed(job, result)
        elif job.is_given_up or not self._set_aside(job):
            self._end(job, "stopped" if job.outcome is not None else "cancelled")
            raise GivenUp

    def _computed(self, job: ActiveJob) -> dict[str, Any] | None:
        """Return the job's result; None if its child was stopped."""
        task = self._prepared(job)
        with ChildProcess(task, self._program) as child:
            last = self._follow(job, child)
        if last is None:
            if self._is_to_stop(job):
                return None  # killed, because it did not stop in time
            raise TrainingFailed("The training process died; the server may have run out of memory.")
        if last.kind is Kind.FAILED:
            raise SLMError.from_dict(last.values["error"])
        return last.values["result"] if last.kind is Kind.RESULT else None

    def _prepared(self, job: ActiveJob) -> Task:
        self._folders.check_room()
        folder = self._folders.make(job.id)
        params = job.job.params
        self._fetch(job, params["file_id"], DATASET, "file_id")
        if params.get("validation_file_id"):
            self._fetch(job, params["validation_file_id"], VALIDATION, "validation_file_id")
        return Task(job.id, job.job.kind, params, job.job.base, job.job.adapter_id, folder)

    def _fetch(self, job: ActiveJob, file_id: str, name: str, param: str) -> None:
        """Copy a stored file into the run's folder, so that a later attempt does not need it any more."""
        if (self._folders.of(job.id) / name).is_file():
            return
        try:
            found = self._files.find(file_id)
        except NotFound as err:
            raise InvalidRequest(err.message, param=param) from err
        self._folders.put(job.id, name, self._files.content(found.id))

    def _follow(self, job: ActiveJob, child: ChildProcess) -> Message | None:
        """Publish the child's messages; return its last one. None: it died, or was killed."""
        asked_at: float | None = None
        for message in child.messages(POLL_S):
            if message is not None and message.kind.is_last:
                return message
            if message is not None and message.kind is Kind.PUBLISHING:
                self._let_publish(job, child)
            elif message is not None and job.outcome is not Outcome.FENCED:
                self._publish(job, message)
            if _is_useless(job):
                return None
            if asked_at is None and self._is_to_stop(job):
                child.stop()
                asked_at = time.monotonic()
            elif asked_at is not None and time.monotonic() - asked_at > self._stop_s:
                return None
        return None

    def _let_publish(self, job: ActiveJob, child: ChildProcess) -> None:
        """Let the child publish, unless the job is to end or to pause, or is another attempt's. Raises `Fenced`."""
        if self._is_to_stop(job):
            return
        if self._store.begin_publishing(job.id, job.attempt):
            job.events.announce(PUBLISHING)
            child.publish()
        elif self._store.is_to_cancel(job.id):  # its message is still on the way
            job.cancel()
        else:
            self._pausing.set()

    def _is_to_stop(self, job: ActiveJob) -> bool:
        return job.is_given_up or self._pausing.is_set()

    def _publish(self, job: ActiveJob, message: Message) -> None:
        values = message.values
        match message.kind:
            case Kind.STATUS:
                job.events.announce(values["line"])
            case Kind.PROGRESS:
                self._metrics.note_progress(values["facts"])
                job.events.progress(values["line"], values["facts"])
            case Kind.SAMPLE:
                job.events.sample(values["facts"])
            case Kind.CHECKPOINT:
                self._folders.check_room()
                job.events.checkpoint(values["step"], is_best=values["is_best"])

    def _succeed(self, job: ActiveJob, result: dict[str, Any]) -> None:
        last = [job.events.status(result["message"]), job.events.finished(JobState.SUCCEEDED)]
        self._store.succeed(job.id, job.attempt, result, last)
        job.decide(Outcome.DONE)
        if job.job.kind is JobKind.TRAIN and not result["published"]:
            self._folders.keep_only(job.id, result["folder"])
        else:
            self._folders.remove(job.id)
        self._metrics.end(job.job.kind.value, "succeeded")

    def _set_aside(self, job: ActiveJob) -> bool:
        """Pause the run and return True; or request its end, if it was cancelled before its child had stopped."""
        if not self._store.set_aside(job.id, job.attempt):
            job.cancel()
            return False
        job.decide(Outcome.DONE)
        self._metrics.end(job.job.kind.value, "paused")
        return True

    def _end(self, job: ActiveJob, outcome: str) -> None:
        """Note how the attempt ended; the files of a run that cannot continue are deleted."""
        if outcome != "stopped" and job.outcome is not Outcome.FENCED:
            self._folders.remove(job.id)
        self._metrics.end(job.job.kind.value, outcome)


def _is_useless(job: ActiveJob) -> bool:
    """Return whether nothing of this attempt is needed any more: it was cancelled, or another one has taken over."""
    return job.is_given_up and job.outcome is not Outcome.RELEASED
