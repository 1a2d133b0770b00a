"""Acquires the model and the adapter for a job."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from common.errors import ModelUnavailable
from worker.jobs.active import ActiveJob
from worker.model.manager import ModelManager
from worker.model.protocols import LoadedAdapter, LoadedModel

LOADING = "Loading SLM model..."


@dataclass(frozen=True, slots=True)
class AcquiredModel:
    """What a job uses. `loaded_for_it`: the job had to wait for the model or the adapter to be loaded."""

    model: LoadedModel
    adapter: LoadedAdapter
    loaded_for_it: bool


@contextmanager
def acquire(model_manager: ModelManager, job: ActiveJob) -> Iterator[AcquiredModel]:
    """Acquire the model and the job's adapter; if one has to be loaded first, the client is informed.

    Raises:
        GivenUp: the job was given up while waiting, or the model was unloaded.
        SLMError: the model or the adapter cannot be loaded.
    """
    with (
        model_manager.acquire(lambda: job.is_given_up, lambda: job.events.announce(LOADING)) as handle,
        _adapter(handle.model, job) as (adapter, was_loaded),
    ):
        yield AcquiredModel(handle.model, adapter, handle.loaded_for_it or was_loaded)


@contextmanager
def acquire_text(model_manager: ModelManager, job: ActiveJob) -> Iterator[AcquiredModel]:
    """As `acquire`, but the model's handle is released, so that an unload does not wait for the `with` block."""
    with model_manager.acquire(lambda: job.is_given_up, lambda: job.events.announce(LOADING)) as handle:
        model = handle.model
    with _adapter(model, job) as (adapter, was_loaded):
        yield AcquiredModel(model, adapter, handle.loaded_for_it or was_loaded)


@contextmanager
def _adapter(model: LoadedModel, job: ActiveJob) -> Iterator[tuple[LoadedAdapter, bool]]:
    waits: list[str] = []

    def announce() -> None:
        waits.append(LOADING)
        job.events.announce(LOADING)

    acquiring = model.adapters.acquire(job.job.adapter_id, lambda: job.is_given_up, announce)
    with ExitStack() as stack:
        try:
            adapter = stack.enter_context(acquiring)
        except ModelUnavailable as err:
            raise ModelUnavailable(f"{job.job.model} cannot be used: {err.message}") from err
        yield adapter, bool(waits)
