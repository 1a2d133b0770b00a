"""Reports attempts at generations to the metrics and traces; only the publisher calls the metrics, too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from worker.engine.sequence import Sequence
from worker.jobs.active import ActiveJob
from worker.observation.metrics import Timeline, WorkerMetrics
from worker.observation.traces import AttemptTrace, Traces


class Observer:
    """Reports attempts; the publisher, which sees all tokens, counts them."""

    def __init__(self, metrics: WorkerMetrics, traces: Traces) -> None:
        self._metrics = metrics
        self._traces = traces

    @contextmanager
    def attempt(self, job: ActiveJob) -> Iterator[ObservedAttempt]:
        """Report an attempt for the duration of a `with` block; an exception that leaves the block is its failure."""
        self._metrics.note_claim(job)
        with self._traces.attempt(job) as trace:
            yield ObservedAttempt(job, self._metrics, trace)


class ObservedAttempt:
    """An attempt that is running."""

    def __init__(self, job: ActiveJob, metrics: WorkerMetrics, trace: AttemptTrace) -> None:
        self._job = job
        self._metrics = metrics
        self._trace = trace

    @contextmanager
    def in_engine(self, sequence: Sequence) -> Iterator[Timeline]:
        """Time it for the duration of a `with` block, which begins before it is submitted to the engine."""
        with self._metrics.in_engine(self._job, sequence) as timeline:
            yield timeline
        self._trace.note_engine(timeline)
