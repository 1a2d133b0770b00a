"""The labels of the metrics that are counted for each model."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from prometheus_client import Counter

from common.jobs.job import JobRecord
from worker.engine.sequence import BASE_ADAPTER

MAX_MODELS = 100  # that have series at the same time


class ModelLabels(NamedTuple):
    """The model of a generation: the version of the adapter, such as `support@3`, and the name of the base model."""

    adapter: str
    base: str

    @classmethod
    def of(cls, job: JobRecord) -> ModelLabels:
        """Return the labels of a job's model."""
        return cls(job.model if job.adapter_id else BASE_ADAPTER, job.base)


class ModelSeries:
    """Bounds the number of series: when there are too many models, those that ran least recently lose theirs.

    If one of them runs again, its series begin at 0, which Prometheus takes for a restart of the process.

    Args:
        counters: the metrics that have a series for each model.
    """

    def __init__(self, counters: Sequence[Counter]) -> None:
        self._counters = counters
        self._known: dict[ModelLabels, None] = {}  # the latest last

    def note(self, model: ModelLabels, running: Collection[ModelLabels]) -> None:
        """Note that a generation begins; models that are `running` keep their series."""
        self._known.pop(model, None)
        self._known[model] = None
        idle = [one for one in self._known if one != model and one not in running]
        for old in idle[: max(0, len(self._known) - MAX_MODELS)]:
            del self._known[old]
            for counter in self._counters:
                counter.remove_by_labels(old._asdict())
