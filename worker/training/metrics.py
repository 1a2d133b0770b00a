"""A trainer's metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge

from common.observation.metrics_store import to_wire
from worker.observation.instruments import family_of


class TrainerMetrics:
    """Counts what the runs of this trainer do, over all of its children."""

    def __init__(self) -> None:
        self._registry = registry = CollectorRegistry()
        self._steps = Counter("slm_training_steps", "Steps of training runs.", registry=registry)
        self._tokens = Counter("slm_training_tokens", "Tokens that training runs have learned from.", registry=registry)
        self._speed = Gauge("slm_training_tokens_per_s", "Speed of the present run.", registry=registry)
        self._ends = Counter("slm_training_attempts", "Ended attempts.", ["kind", "outcome"], registry=registry)
        self._seen = (0, 0)  # steps and tokens of the present attempt that were counted

    def begin(self) -> None:
        """Note the start of an attempt."""
        self._seen = (-1, 0)

    def note_progress(self, facts: Mapping[str, Any]) -> None:
        """Note the progress of a run. The first one of an attempt may continue an earlier attempt's count."""
        if "step" not in facts:
            return
        step, tokens = int(facts["step"]), int(facts["tokens"])
        if self._seen[0] >= 0:
            self._steps.inc(max(0, step - self._seen[0]))
            self._tokens.inc(max(0, tokens - self._seen[1]))
        self._seen = (step, tokens)
        self._speed.set(facts["tokens_per_s"])

    def end(self, kind: str, outcome: str) -> None:
        """Note the end of an attempt."""
        self._ends.labels(kind, outcome).inc()
        self._speed.set(0)

    def to_wire(self) -> str:
        """Return all metrics with their current values, in the form of the metrics store."""
        return to_wire([family_of(metric) for metric in self._registry.collect()])
