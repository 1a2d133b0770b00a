"""Runs load and unload jobs: changes the desired state, and waits until every live worker has reached it."""

from __future__ import annotations

import time
from typing import Any

from common.errors import Conflict, ModelUnavailable, NoWorker
from common.fleet import Desired, Fleet, WorkerReport, WorkerState
from common.jobs.job import JobKind, JobState
from common.jobs.store import NO_WORKER_RETRY_S, JobStore
from worker.helper.given_up import GivenUp
from worker.jobs.acquire import LOADING
from worker.jobs.active import ActiveJob

POLL_S = 0.05  # how often the workers' reports are read while waiting
TIMEOUT_S = 600.0  # a worker that has not reached the state by then never will


class ModelJobs:
    """Runs one claimed load or unload job. Any worker can run it for all, even without a model or for another base.

    Args:
        store: the jobs.
        fleet: that of this worker's base model.
        default_base: the base model of jobs that name none, if the server has several.
    """

    def __init__(self, store: JobStore, fleet: Fleet, default_base: str) -> None:
        self._store = store
        self._fleet = fleet
        self._default_base = default_base

    def run(self, job: ActiveJob) -> None:
        """Run the job to its end or until it is given up.

        Raises:
            ModelUnavailable: a worker could not load the model, did not report in time, or loaded different files.
            NoWorker: no worker of the base model is alive.
            Conflict: a later request reversed the desired state.
            GivenUp: the job was given up while waiting.
            Fenced: another attempt owns the job.
        """
        loading = job.job.kind is JobKind.LOAD
        fleet = self._fleet.of(job.job.base or self._default_base) if self._fleet.base else self._fleet
        before = fleet.workers_of_base()
        if not before:
            raise NoWorker(f"No worker of the base model {fleet.base!r} is alive.", retry_after_s=NO_WORKER_RETRY_S)
        job.events.announce(LOADING if loading else "Unloading SLM model...")
        workers = _wait_for_all(job, fleet, fleet.set_desired(loaded=loading))
        result = _loaded(before, workers) if loading else _unloaded(workers)
        last = [job.events.status(result["message"]), job.events.finished(JobState.SUCCEEDED)]
        self._store.succeed(job.id, job.attempt, result, last)


def _wait_for_all(job: ActiveJob, fleet: Fleet, wanted: Desired) -> list[WorkerReport]:
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        workers = [worker for worker in fleet.workers_of_base() if worker.state is not WorkerState.DRAINING]
        if workers and all(worker.generation >= wanted.generation for worker in workers):
            _check_still_wanted(fleet, wanted)
            return workers
        if job.wait(POLL_S):
            raise GivenUp
    raise ModelUnavailable(f"Not every worker answered within {TIMEOUT_S:.0f} s; GET /slm/info shows them.")


def _check_still_wanted(fleet: Fleet, wanted: Desired) -> None:
    if fleet.desired().loaded != wanted.loaded:
        raise Conflict("A later request has reversed this one: the model is being loaded or unloaded again.")


def _loaded(before: list[WorkerReport], workers: list[WorkerReport]) -> dict[str, Any]:
    failed = [worker for worker in workers if worker.error is not None]
    if failed:
        raise ModelUnavailable(f"Worker {failed[0].id} could not load the model: {failed[0].error}")
    _check_agreement(workers)
    first = workers[0]
    return {
        "message": f"Model loaded successfully on {first.device}",
        "device": first.device,
        "model_path": first.lora_path or first.base_model,
        "changed": _changed(before, workers),
        "base_id": first.base_id,
        **({} if first.adapter_id is None else {"adapter_id": first.adapter_id}),
        "workers": _summary(workers),
    }


def _check_agreement(workers: list[WorkerReport]) -> None:
    first = workers[0]
    other = next((worker for worker in workers if _content(worker) != _content(first)), None)
    if other is not None:
        raise ModelUnavailable(
            f"Workers {first.id} and {other.id} found different files: {_described(first)}, and {_described(other)}. "
            "Bring the same files to every worker's machine and load the model again."
        )


def _changed(before: list[WorkerReport], after: list[WorkerReport]) -> list[str]:
    """Return the parts of the model ("base", "adapter") that have changed on any worker that was there before."""
    earlier = {worker.id: worker for worker in before}
    pairs = [(earlier[worker.id], worker) for worker in after if worker.id in earlier]
    ids = {"base": "base_id", "adapter": "adapter_id"}
    return [part for part, name in ids.items() if any(getattr(was, name) != getattr(now, name) for was, now in pairs)]


def _content(worker: WorkerReport) -> tuple[str | None, str | None]:
    return worker.base_id, worker.adapter_id


def _described(worker: WorkerReport) -> str:
    base, adapter = (content and content[:12] for content in _content(worker))
    return f"{worker.base_model} ({base}) with {worker.lora_path or 'no adapter'}{f' ({adapter})' if adapter else ''}"


def _unloaded(workers: list[WorkerReport]) -> dict[str, Any]:
    return {"message": "Model unloaded successfully", "workers": _summary(workers)}


def _summary(workers: list[WorkerReport]) -> list[dict[str, Any]]:
    return [{"id": worker.id, "device": worker.device, "state": worker.state.value} for worker in workers]
