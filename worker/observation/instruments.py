"""The metrics of a worker: vLLM's metric names, which dashboards know, with the prefix `slm_`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from common.observation.metrics_store import Family, Sample
from worker.model.protocols import LoadedModel
from worker.observation.model_labels import ModelLabels, ModelSeries

WAITS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
TOKEN_GAPS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
OF_A_MODEL = ModelLabels._fields
TOKEN_COUNTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000)


class Instruments:
    """One worker's counters and histograms, in their own registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.ttft = self._seconds("time_to_first_token", "From the job's creation to its first token.")
        self.itl = self._seconds("inter_token_latency", "From a token to the same answer's next one.", TOKEN_GAPS_S)
        self.e2e = self._seconds("e2e_request_latency", "From the job's creation to its last token.")
        self.queue_time = self._seconds("request_queue_time", "From the job's creation to its first claim.")
        self.prefill_time = self._seconds("request_prefill_time", "From the submission to the first token.")
        self.decode_time = self._seconds("request_decode_time", "From the first token to the last.")
        self.prompt_sizes = self._histogram("request_prompt_tokens", "Tokens of a prompt.", TOKEN_COUNTS)
        self.answer_sizes = self._histogram("request_generation_tokens", "Tokens of an answer.", TOKEN_COUNTS)
        self.prompt_tokens = self._counter("prompt_tokens", "Prompt tokens.", *OF_A_MODEL)
        self.generation_tokens = self._counter("generation_tokens", "Tokens generated.", *OF_A_MODEL)
        self.ended = self._counter("request_success", "Ended generations, by reason.", *OF_A_MODEL, "finished_reason")
        self.of_models = ModelSeries((self.prompt_tokens, self.generation_tokens, self.ended))
        self.adapter_loads = self._counter("adapter_loads", "Loads of adapters.", "outcome")
        self.adapter_load_time = self._seconds("adapter_load", "From the beginning of an adapter's load to its end.")
        self.adapter_evictions = self._counter("adapter_evictions", "Adapters evicted to make room.")
        self.redis_errors = self._counter("worker_redis_errors", "Failed attempts to reach Redis.")
        self.redis_reconnects = self._counter("worker_redis_reconnects", "Times that Redis answered again afterwards.")

    def _seconds(self, stem: str, meaning: str, bounds: tuple[float, ...] = WAITS_S) -> Histogram:
        return self._histogram(f"{stem}_seconds", meaning, bounds)

    def _histogram(self, name: str, meaning: str, bounds: tuple[float, ...]) -> Histogram:
        return Histogram(f"slm_{name}", meaning, buckets=bounds, registry=self.registry)

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(f"slm_{name}", meaning, labels, registry=self.registry)

    def families(self) -> list[Family]:
        """Return all metrics with their current values."""
        return [family_of(metric) for metric in self.registry.collect()]


class ModelGauges(Collector):
    """The load of the model's engine and its adapters, read on demand.

    Args:
        model: returns the model; None while none is loaded.
        running: returns the number of generations in the engine, by model.
    """

    def __init__(
        self, model: Callable[[], LoadedModel | None], running: Callable[[], Mapping[ModelLabels, int]]
    ) -> None:
        self._model = model
        self._running = running

    def collect(self) -> Iterable[Metric]:
        """Yield the metrics; none while the model is unloaded."""
        model = self._model()
        if model is None:
            return
        engine = model.engine
        yield _gauge("adapters_loaded", "Adapters in memory.", len(model.adapters.ids))
        yield _gauge("adapter_memory_bytes", "Memory that the adapters take.", model.adapters.num_bytes)
        yield _gauge("num_requests_running", "Generations in the engine's batch.", engine.num_running)
        yield _gauge("engine_requests_waiting", "Generations that wait inside the engine.", engine.num_waiting)
        yield _gauge("kv_cache_usage_perc", "Part of the key-value cache that is in use, 0 to 1.", engine.kv_usage)
        yield CounterMetricFamily("slm_num_preemptions", "Preempted generations.", value=engine.num_preemptions)
        yield CounterMetricFamily("slm_spec_decode_num_draft_tokens", "Draft tokens.", value=engine.num_draft_tokens)
        yield CounterMetricFamily(
            "slm_spec_decode_num_accepted_tokens", "Accepted draft tokens.", value=engine.num_accepted_tokens
        )
        by_model = GaugeMetricFamily(
            "slm_adapter_requests_running", "Generations in the engine, by adapter.", labels=OF_A_MODEL
        )
        for labels, count in self._running().items():
            by_model.add_metric(labels, count)
        yield by_model


def _gauge(name: str, meaning: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"slm_{name}", meaning, value=value)


def family_of(metric: Metric) -> Family:
    """Convert a metric, without its creation times, which would double the number of series."""
    samples = [Sample(sample.name, dict(sample.labels), sample.value) for sample in metric.samples]
    current = [sample for sample in samples if not sample.name.endswith("_created")]
    return Family(metric.name, metric.type, metric.documentation, current)
