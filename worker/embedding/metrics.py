"""An embedder's metrics."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from common.observation.metrics_store import to_wire
from worker.observation.instruments import family_of

BATCH_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
JOB_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class EmbedderMetrics:
    """Counts what the jobs of this embedder do."""

    def __init__(self, num_waiting: Callable[[], int]) -> None:
        self._registry = registry = CollectorRegistry()
        self._inputs = Counter("slm_embedding_inputs", "Inputs that were computed.", registry=registry)
        self._tokens = Counter("slm_embedding_tokens", "Tokens of these inputs.", registry=registry)
        self._batches = Histogram("slm_embedding_batch_seconds", "Time of a batch.", buckets=BATCH_S, registry=registry)
        self._jobs = Histogram(
            "slm_embedding_request_seconds",
            "From the job's creation to its vectors.",
            buckets=JOB_S,
            registry=registry,
        )
        waiting = Gauge("slm_embedding_inputs_waiting", "Inputs that wait inside the embedder.", registry=registry)
        waiting.set_function(num_waiting)

    def note_batch(self, inputs: int, tokens: int, seconds: float) -> None:
        """Note a batch."""
        self._inputs.inc(inputs)
        self._tokens.inc(tokens)
        self._batches.observe(seconds)

    def note_end(self, seconds: float) -> None:
        """Note a job that succeeded."""
        self._jobs.observe(seconds)

    def to_wire(self) -> str:
        """Return all metrics with their current values, in the form of the metrics store."""
        return to_wire([family_of(metric) for metric in self._registry.collect()])
