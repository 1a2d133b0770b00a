"""Runs check_dataset jobs: reports what is wrong with a dataset, and what a training would see of it."""

from __future__ import annotations

from typing import Any

from common.errors import InvalidRequest, NotFound
from common.jobs.job import JobState
from common.jobs.store import JobStore
from common.owners.files import FileStore
from worker.engine.untrusted_code.datasets import DatasetToCheck
from worker.jobs.acquire import AcquiredModel, acquire_text
from worker.jobs.active import ActiveJob
from worker.model.manager import ModelManager

CHECKING = "Checking the dataset..."


class DatasetJobs:
    """Runs one claimed check_dataset job, with the tokenizer and template of its model, which is loaded for it."""

    def __init__(self, store: JobStore, files: FileStore, model_manager: ModelManager) -> None:
        self._store = store
        self._files = files
        self._model_manager = model_manager

    def run(self, job: ActiveJob) -> None:
        """Run the job to its end.

        Raises:
            SLMError: the model cannot be loaded, an option is wrong, or a file is gone.
            GivenUp: the job was given up meanwhile, or the model was unloaded.
            Fenced: another attempt owns the job.
        """
        with acquire_text(self._model_manager, job) as acquired:
            job.events.announce(CHECKING)
            report = acquired.adapter.renderer.check_dataset(
                self._wanted(job.job.params, acquired), lambda: job.is_given_up
            )
        self._store.succeed(job.id, job.attempt, report, [job.events.finished(JobState.SUCCEEDED)])

    def _wanted(self, params: dict[str, Any], acquired: AcquiredModel) -> DatasetToCheck:
        held_out = params.get("validation_file_id")
        return DatasetToCheck(
            content=params["content"] if "content" in params else self._content(params["file_id"], "file_id"),
            held_out=None if held_out is None else self._content(held_out, "validation_file_id"),
            options=params["options"],
            seed=params["seed"],
            tokens_per_s=params["tokens_per_s"],
            context=acquired.model.context,
        )

    def _content(self, file_id: str, param: str) -> str:
        """Return a file that the API has found for the job's owner."""
        try:
            self._files.find(file_id)
        except NotFound as err:
            raise InvalidRequest(f"The file {file_id} was deleted before it was checked.", param=param) from err
        return "".join(self._files.content(file_id))
