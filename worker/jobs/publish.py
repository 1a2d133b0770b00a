"""Runs publish jobs: checks an uploaded adapter, keeps its files, and registers it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from common.adapters.records import Registered, VersionFacts
from common.errors import Conflict, InvalidRequest, SLMError
from common.jobs.job import JobState
from common.jobs.store import JobStore
from models.errors import AdapterError
from worker.helper.given_up import GivenUp
from worker.jobs.active import ActiveJob, Outcome
from worker.model.archives import Archives
from worker.model.base_choice import BaseChoice, OtherBase
from worker.model.intake import AdapterIntake

CHECKING = "Checking the adapter..."


class PublishJobs:
    """Runs one claimed publish job: of an upload, or of a training run in the folder `runs`. Needs no loaded model."""

    def __init__(
        self,
        store: JobStore,
        intake: AdapterIntake,
        archives: Archives,
        runs: Path,
        choice: BaseChoice,
        *,
        max_bytes: int,
    ) -> None:
        self._runs = runs
        self._store = store
        self._choice = choice
        self._intake = intake
        self._archives = archives
        self._max_bytes = max_bytes

    def run(self, job: ActiveJob) -> None:
        """Run the job to its end, or hand it over to the workers of the adapter's base model.

        The upload is deleted, unless another attempt needs it.

        Raises:
            InvalidRequest: the archive or the adapter cannot be used; the text says what would be right.
            Conflict: the name is taken.
            GivenUp: the job was given up meanwhile.
            Fenced: another attempt owns the job.
        """
        job.events.announce(CHECKING)
        if "run" in job.job.params:
            self._publish_run(job)
            return
        upload: str = job.job.params["upload"]
        try:
            result = self._published(job, upload)
        except OtherBase as other:
            self._store.advance(job.job, job.attempt, base=other.base)
            return
        except SLMError:
            self._archives.remove(upload)
            raise
        self._succeed(job, result)
        self._archives.remove(upload)

    def _publish_run(self, job: ActiveJob) -> None:
        """Publish the adapter of a training run that was kept, and note it in the run's result."""
        run: str = job.job.params["run"]
        folder = self._runs / run / job.job.params["folder"]
        if not folder.is_dir():
            raise Conflict(f"The files of the training run {run} are not on this worker's machine any more.")
        try:
            result = _result(*self._intake.publish_folder(job.job.params["name"], folder))
        except AdapterError as err:
            raise InvalidRequest(str(err)) from err
        noted = {"published": True, "version": result["version"], "adapter_id": result["facts"]["id"]}
        self._store.amend_result(run, noted)
        self._succeed(job, result)
        shutil.rmtree(folder.parent, ignore_errors=True)

    def _succeed(self, job: ActiveJob, result: dict[str, Any]) -> None:
        last = [job.events.status(result["message"]), job.events.finished(JobState.SUCCEEDED)]
        self._store.succeed(job.id, job.attempt, result, last)

    def _published(self, job: ActiveJob, upload: str) -> dict[str, Any]:
        archive = self._archives.path(upload)
        try:
            registered, facts = self._intake.publish(
                job.job.params["name"],
                archive,
                max_bytes=self._max_bytes,
                is_given_up=lambda: job.is_given_up,
                **({} if job.job.base else {"check_base": self._choice.check_is_own}),
            )
        except AdapterError as err:
            raise InvalidRequest(str(err), param="file") from err
        except GivenUp:
            if job.outcome is not Outcome.RELEASED:  # cancelled: no other attempt needs it
                self._archives.remove(upload)
            raise
        return _result(registered, facts)


def _result(registered: Registered, facts: VersionFacts | None) -> dict[str, Any]:
    if facts is None:
        raise Conflict(f"{registered.name}@{registered.number} was deleted meanwhile.")
    verb = "is now" if registered.is_new else "already was"
    return {
        "message": f"{registered.name}@{registered.number} {verb} the newest version",
        "name": registered.name,
        "version": registered.number,
        "is_new": registered.is_new,
        "facts": facts.to_dict(),
    }
