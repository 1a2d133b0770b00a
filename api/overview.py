"""Describes the server as a whole: its workers, its queue, and whether it is ready. Knows nothing of HTTP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from common.adapters.names import public_name
from common.embedding.embedders import Embedders
from common.errors import ModelUnavailable, NoWorker
from common.fleet import Fleet, WorkerReport, WorkerState
from common.jobs.job import Lane
from common.jobs.queue_metrics import QueueMetrics
from common.jobs.store import NO_WORKER_RETRY_S, JobStore
from common.settings import Settings
from common.training.trainers import Trainers


@dataclass(frozen=True, slots=True)
class TrainingCounts:
    """The numbers of live trainers, and of waiting and running training runs and evaluations."""

    trainers: int = 0
    waiting: int = 0
    running: int = 0


@dataclass(frozen=True, slots=True)
class EmbeddingCounts:
    """The model for embeddings, the number of its live embedders, and of waiting and running jobs."""

    model: str
    embedders: int
    waiting: int
    running: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The live workers, and the numbers of waiting and running generations.

    `bases`: the same of each base model by its name, if the server has several. `embedding`: None without a model for
    embeddings.
    """

    workers: Sequence[WorkerReport]
    waiting: int
    running: int
    bases: Mapping[str, Snapshot] = field(default_factory=dict)
    training: TrainingCounts = TrainingCounts()
    embedding: EmbeddingCounts | None = None


def without_internals(workers: Sequence[WorkerReport]) -> list[WorkerReport]:
    """Return the reports without hosts, process ids, paths and error texts, which only admins may see."""
    return [
        one.but(
            id=f"worker-{number}",
            host="",
            pid=0,
            base_model=one.base_model and public_name(one.base_model),
            lora_path=one.lora_path and public_name(one.lora_path),
            error=one.error and "Only an admin can see the error.",
        )
        for number, one in enumerate(workers, start=1)
    ]


class Overview:
    """Reads the fleet and the queue. Every method may raise `redis.exceptions.RedisError`."""

    def __init__(
        self, fleet: Fleet, trainers: Trainers, embedders: Embedders, store: JobStore, settings: Settings
    ) -> None:
        self._fleet = fleet
        self._trainers = trainers
        self._embedders = embedders
        self._settings = settings
        self._store = store

    def snapshot(self) -> Snapshot:
        """Return the current state."""
        workers, metrics = self.workers(), self._store.metrics()
        lanes = {lane for lane in metrics.waiting if Lane.of(lane) is Lane.GENERATE}
        counts = {lane: (metrics.waiting[lane], metrics.running[lane]) for lane in lanes}
        bases = {base: f"{Lane.GENERATE}:{base}" for base in sorted({one.base for one in workers if one.base})}
        return Snapshot(
            workers,
            sum(waiting for waiting, _ in counts.values()),
            sum(running for _, running in counts.values()),
            bases={
                base: Snapshot([one for one in workers if one.base == base], *counts[lane])
                for base, lane in bases.items()
            },
            training=TrainingCounts(
                len(self._trainers.live()), metrics.waiting[Lane.TRAIN], metrics.running[Lane.TRAIN]
            ),
            embedding=self._embedding(metrics),
        )

    def _embedding(self, metrics: QueueMetrics) -> EmbeddingCounts | None:
        live = self._embedders.live()
        model = live[0].model if live else self._settings.embed_name
        if model is None:
            return None
        return EmbeddingCounts(model, len(live), metrics.waiting[Lane.EMBED], metrics.running[Lane.EMBED])

    def workers(self) -> list[WorkerReport]:
        """Return the reports of the live workers, those of the default base model first."""
        return sorted(self._fleet.workers(), key=lambda one: one.base != self._settings.lane_bases[0])

    def check_ready(self, *, in_full: bool) -> None:
        """Return if a generation could start now. The error has all details only if `in_full`, for admins.

        Raises:
            NoWorker: no worker is alive.
            ModelUnavailable: workers are alive, but none has the model loaded, and with `SLM_KEEP_ALIVE_S` none of them
                has only unloaded it until the next request.
        """
        workers = self.workers() if in_full else without_internals(self.workers())
        if not workers:
            raise NoWorker("No worker is alive.", retry_after_s=NO_WORKER_RETRY_S)
        loads_on_demand = self._settings.keep_alive_s is not None and any(
            one.state is WorkerState.UNLOADED for one in workers
        )
        if not loads_on_demand and not any(one.holds_model for one in workers):
            states = ", ".join(f"{one.id} is {one.state.value}" for one in workers)
            raise ModelUnavailable(f"No worker has the model loaded: {states}.", retry_after_s=NO_WORKER_RETRY_S)
