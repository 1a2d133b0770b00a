"""Counts and times a worker's generations.

The engine knows nothing of metrics: they come from its outputs, as the publisher sees them, and from its counters, read
on demand. All intervals are measured with this process's monotonic clock.
"""

from __future__ import annotations

import threading
import time
from collections import Counter as Tally
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from prometheus_client import Counter

from common.observation.metrics_store import MetricsStore, to_wire
from common.redis.failures import RedisTrouble
from worker.engine.sequence import Sequence, SequenceOutput
from worker.jobs.active import ActiveJob
from worker.model.protocols import LoadedModel
from worker.observation.instruments import Instruments, ModelGauges
from worker.observation.model_labels import ModelLabels

REPORT_EVERY_S = 5.0  # Prometheus usually scrapes every 15 s
TTL_S = 15.0  # how long the metrics store keeps a worker's metrics after its last report


@dataclass(slots=True)
class Timeline:
    """A generation in the engine. Times are seconds of the monotonic clock."""

    model: ModelLabels
    generated: Counter
    created_at: float
    submitted_at: float
    is_fresh: bool  # no earlier attempt has generated a token
    first_token_at: float | None = None
    last_token_at: float = 0.0


class WorkerMetrics:
    """One worker's metrics. Thread-safe.

    Args:
        model: returns the model; None while none is loaded.
        clock: returns seconds of the monotonic clock that the `Publisher` uses.
    """

    def __init__(self, model: Callable[[], LoadedModel | None], clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._runs: dict[str, Timeline] = {}  # by sequence id
        self._instruments = Instruments()
        self._instruments.registry.register(ModelGauges(model, self._running))
        self.redis_trouble = RedisTrouble(self._instruments.redis_errors.inc, self._instruments.redis_reconnects.inc)

    def note_claim(self, job: ActiveJob) -> None:
        """Note that a generation was claimed."""
        if job.attempt == 1:
            self._instruments.queue_time.observe(job.waited_s)

    @contextmanager
    def in_engine(self, job: ActiveJob, sequence: Sequence) -> Iterator[Timeline]:
        """Time a generation for the duration of a `with` block, which begins before it is submitted to the engine."""
        with self._lock:
            run = self._runs[sequence.sequence_id] = self._begin(job, sequence)
        try:
            yield run
        finally:
            with self._lock:
                del self._runs[sequence.sequence_id]

    def _begin(self, job: ActiveJob, sequence: Sequence) -> Timeline:
        now, model = self._clock(), ModelLabels.of(job.job)
        self._instruments.of_models.note(model, {run.model for run in self._runs.values()})
        return Timeline(
            model=model,
            generated=self._instruments.generation_tokens.labels(*model),
            created_at=now - job.age_s,
            submitted_at=now,
            is_fresh=not sequence.output_ids,
        )

    def note_output(self, output: SequenceOutput, at: float) -> None:
        """Note an output of the engine, and when it came."""
        run = self._runs.get(output.sequence_id)
        if run is None:
            return
        if output.token_ids:
            self._note_tokens(run, output, at)
        if output.finish_reason is not None:
            self._note_end(run, output, at)

    def _note_tokens(self, run: Timeline, output: SequenceOutput, at: float) -> None:
        count = len(output.token_ids)
        run.generated.inc(count)
        if run.first_token_at is None:
            self._note_first_token(run, output, at)
        else:  # text that was held back comes together with all its tokens
            for _ in range(count):
                self._instruments.itl.observe((at - run.last_token_at) / count)
        run.last_token_at = at

    def _note_first_token(self, run: Timeline, output: SequenceOutput, at: float) -> None:
        run.first_token_at = at
        self._instruments.prompt_tokens.labels(*run.model).inc(output.num_prompt_tokens)
        self._instruments.prefill_time.observe(at - run.submitted_at)
        if run.is_fresh:
            self._instruments.ttft.observe(at - run.created_at)

    def _note_end(self, run: Timeline, output: SequenceOutput, at: float) -> None:
        instruments = self._instruments
        instruments.ended.labels(*run.model, str(output.finish_reason)).inc()
        instruments.e2e.observe(at - run.created_at)
        instruments.prompt_sizes.observe(output.num_prompt_tokens)
        instruments.answer_sizes.observe(output.num_output_tokens)
        if run.first_token_at is not None:
            instruments.decode_time.observe(run.last_token_at - run.first_token_at)

    def note_adapter_load(self, seconds: float, *, succeeded: bool) -> None:
        """Note that the load of an adapter ended."""
        self._instruments.adapter_loads.labels("succeeded" if succeeded else "failed").inc()
        self._instruments.adapter_load_time.observe(seconds)

    def note_adapter_eviction(self) -> None:
        """Note that an adapter was evicted."""
        self._instruments.adapter_evictions.inc()

    def _running(self) -> dict[ModelLabels, int]:
        with self._lock:
            return Tally(run.model for run in self._runs.values())

    def to_wire(self) -> str:
        """Return all metrics with their current values, in the form of the metrics store."""
        return to_wire(self._instruments.families())


class MetricsReporter:
    """Writes the worker's metrics to the metrics store. If they have not changed, it only renews their expiry.

    Args:
        read_metrics: returns the current metrics, in the form of the metrics store.
        clock: returns seconds of a monotonic clock.
    """

    def __init__(
        self,
        metrics_store: MetricsStore,
        worker_id: str,
        read_metrics: Callable[[], str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._metrics_store = metrics_store
        self._worker_id = worker_id
        self._read_metrics = read_metrics
        self._clock = clock
        self._last = ""
        self._due_at = 0.0

    def report(self) -> None:
        """Report if a report is due; called at every heartbeat. May raise `redis.exceptions.RedisError`."""
        if self._clock() < self._due_at:
            return
        metrics = self._read_metrics()
        if metrics != self._last or not self._metrics_store.keep(self._worker_id, ttl_s=TTL_S):
            self._metrics_store.put(self._worker_id, metrics, ttl_s=TTL_S)
            self._last = metrics
        self._due_at = self._clock() + REPORT_EVERY_S
