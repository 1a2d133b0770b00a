"""Acquires the model for a job."""

from __future__ import annotations

from contextlib import AbstractContextManager

from worker.jobs.active import ActiveJob
from worker.model.manager import ModelHandle, ModelManager
from worker.model.protocols import LoadedModel

LOADING = "Loading SLM model..."


def acquire(model_manager: ModelManager, job: ActiveJob) -> AbstractContextManager[ModelHandle]:
    """Acquire the model; if it has to be loaded first, the client is informed. Raises as `ModelManager.acquire`."""
    return model_manager.acquire(lambda: job.is_given_up, lambda: job.events.announce(LOADING))


def loaded_model(model_manager: ModelManager, job: ActiveJob) -> LoadedModel:
    """Return the model, its handle released, so that an unload does not wait for the slow part that follows.

    Raises as `ModelManager.acquire`.
    """
    with acquire(model_manager, job) as handle:
        return handle.model
