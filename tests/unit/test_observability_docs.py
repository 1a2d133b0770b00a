"""docs/observability.md names exactly the existing metrics, with their types and labels."""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from redis import Redis

from api.observation.exchange import Exchange
from api.observation.fleet_metrics import FleetMetrics
from api.observation.metrics import ApiMetrics
from common.embedding.embedders import Embedders
from common.fleet import Fleet, WorkerReport
from common.observation.metrics_store import MetricsStore
from common.settings import ROOT
from common.training.trainers import TrainerReport, Trainers
from tests.fake_redis import fake_redis
from tests.fakes import Outputs, fake_engine
from tests.scripted_worker import ENCODER
from worker.embedding.metrics import EmbedderMetrics
from worker.observation.instruments import Instruments, ModelGauges
from worker.observation.metrics import MetricsReporter, to_wire
from worker.observation.model_labels import ModelLabels
from worker.training.metrics import TrainerMetrics

SUPPORT = ModelLabels("support@3", "smol")
DOCUMENT = (ROOT / "docs" / "observability.md").read_text()


@pytest.fixture
def redis() -> Iterator[Redis]:
    client = fake_redis()
    yield client
    client.close()


def used_instruments() -> Instruments:
    """A worker's metrics, each with a series."""
    made = Instruments()
    model: Any = SimpleNamespace(engine=fake_engine(Outputs()), adapters=SimpleNamespace(ids=("one",), num_bytes=1))
    made.registry.register(ModelGauges(lambda: model, lambda: {SUPPORT: 1}))
    made.adapter_loads.labels("failed").inc()
    for counter in (made.prompt_tokens, made.generation_tokens):
        counter.labels(*SUPPORT).inc()
    made.ended.labels(*SUPPORT, "stop").inc()
    return made


def exposed(redis: Redis) -> dict[str, tuple[str, frozenset[str]]]:
    """Type and labels of each metric of /metrics."""
    Fleet(redis).beat(WorkerReport(id="w", host="h", pid=1, base="smol"), ttl_s=60)
    redis.hset("slm:counters", "jobs:generate:succeeded", 1)
    MetricsReporter(MetricsStore(redis), "w", lambda: to_wire(used_instruments().families())).report()
    Trainers(redis).beat(TrainerReport("t", "h", 1, "cpu"), ttl_s=60)
    of_training = TrainerMetrics()
    of_training.end("train", "succeeded")
    MetricsReporter(MetricsStore(redis), "t", of_training.to_wire).report()
    Embedders(redis).beat(ENCODER, ttl_s=60)
    MetricsReporter(MetricsStore(redis), ENCODER.id, EmbedderMetrics(lambda: 0).to_wire).report()
    registry, api = CollectorRegistry(), ApiMetrics()
    exchange = Exchange({"REQUEST_METHOD": "GET", "PATH_INFO": "/"})
    api.begin(exchange)
    api.end(exchange)
    api.register_in(registry)
    registry.register(FleetMetrics(redis))
    found = {}
    for metric in registry.collect():
        name = f"{metric.name}_total" if metric.type == "counter" else metric.name
        labels = {label for sample in metric.samples for label in sample.labels} - {"le"}
        found[name] = (metric.type, frozenset(labels))
    return found


def documented() -> dict[str, tuple[str, frozenset[str]]]:
    rows = re.findall(r"^\| `(slm_\w+)` \| (\w+) \| ([\w, ]*)\|", DOCUMENT, re.MULTILINE)
    return {name: (kind, frozenset(re.findall(r"\w+", labels))) for name, kind, labels in rows}


def test_every_metric_is_documented_correctly(redis: Redis) -> None:
    assert documented() == exposed(redis)


def test_the_queries_use_existing_metrics(redis: Redis) -> None:
    there = exposed(redis)
    histograms = {f"{name}_bucket" for name, (kind, _) in there.items() if kind == "histogram"}
    asked = {
        name
        for block in re.findall(r"```promql\n(.*?)```", DOCUMENT, re.DOTALL)
        for name in re.findall(r"slm_\w+", block)
    }
    assert asked - there.keys() - histograms == set()
