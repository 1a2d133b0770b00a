"""A worker's metrics of generations whose timing the test controls."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from types import SimpleNamespace
from typing import Any

import pytest
from redis import Redis

from common.adapters.records import VersionFacts
from common.adapters.registry import AdapterRegistry
from common.fleet import Fleet, WorkerReport
from common.jobs.job import GenerateParams, JobKind
from common.jobs.sampling import SamplingParams
from common.jobs.store import JobOptions, JobStore
from common.observation.metrics_store import MetricsStore, from_wire
from common.redis import keys
from tests.fake_redis import fake_redis
from tests.fakes import FakeRunner, Gate, Outputs, endless, fake_engine, fake_prompt
from worker.engine.sequence import FinishReason, Sequence, SequenceOutput
from worker.jobs.active import ActiveJob
from worker.observation import model_labels
from worker.observation.metrics import REPORT_EVERY_S, MetricsReporter, WorkerMetrics

SAMPLING = SamplingParams(seed=0)


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("worker.jobs.active.time", SimpleNamespace(monotonic=made))
    return made


@pytest.fixture
def redis() -> Iterator[Redis]:
    client = fake_redis()
    yield client
    client.close()


@pytest.fixture
def metrics(clock: Clock) -> WorkerMetrics:
    return WorkerMetrics(lambda: None, clock)


def claimed(redis: Redis, job_id: str = "j", *, model: str = "", waited_s: float = 0.0, attempts: int = 1) -> ActiveJob:
    """A job that was claimed for its last attempt, that long after its creation."""
    Fleet(redis).beat(WorkerReport(id="w", host="h", pid=1, slots=4), ttl_s=60)
    store = JobStore(redis, lambda _: None, job_ttl_s=60)
    params = GenerateParams("Hi", SAMPLING).to_dict()
    store.submit(job_id, JobKind.GENERATE, params, owner="o", max_queue=9, options=JobOptions(model=model))
    redis.hincrby(keys.job(job_id), "created_ms", -int(waited_s * 1000))
    for _ in range(attempts):
        claim = store.claim(job_id, "w", lease_s=60)
        assert claim is not None
        store.release(job_id, claim.attempt)
    return ActiveJob(claim, store)


def sequence(job: ActiveJob, committed: tuple[int, ...] = ()) -> Sequence:
    return Sequence(job.sequence_id, fake_prompt("Hi"), SAMPLING, output_ids=list(committed))


def publish(redis: Redis, name: str) -> None:
    registry = AdapterRegistry(redis)
    registry.note_base("smol", "b1")
    registry.register(name, VersionFacts(f"id-{name}", "smol"))


def output(job: ActiveJob, *ids: int, total: int = 1, end: FinishReason | None = None) -> SequenceOutput:
    return SequenceOutput(job.sequence_id, ids, "x", num_prompt_tokens=3, num_output_tokens=total, finish_reason=end)


def series(wire: str) -> dict[str, float]:
    """Every series that is not zero, as `name{label="value"}`; for histograms only sums and counts."""
    found = {}
    for family in from_wire(wire):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sample.labels.items())
            if sample.value and not sample.name.endswith("_bucket"):
                found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def test_a_generation_is_timed_from_its_creation_to_its_last_token(
    redis: Redis, metrics: WorkerMetrics, clock: Clock
) -> None:
    publish(redis, "mine")
    job = claimed(redis, model="mine", waited_s=2.0)
    metrics.note_claim(job)
    clock.now += 0.25  # rendering the prompt
    with metrics.in_engine(job, sequence(job)):
        clock.now += 0.5
        metrics.note_output(output(job, 7), clock.now)
        clock.now += 0.1
        metrics.note_output(output(job, 8, total=2), clock.now)
        clock.now += 0.3
        metrics.note_output(output(job, 9, total=3, end=FinishReason.STOP), clock.now)
    found = series(metrics.to_wire())
    waited_s = found.pop("slm_request_queue_time_seconds_sum")
    assert waited_s == pytest.approx(2.0, abs=0.5)  # Redis's clock moved between submit and claim
    times = {
        "slm_time_to_first_token_seconds": waited_s + 0.75,
        "slm_e2e_request_latency_seconds": waited_s + 1.15,
        "slm_request_prefill_time_seconds": 0.5,
        "slm_request_decode_time_seconds": 0.4,
    }
    for name, seconds in times.items():
        assert found.pop(f"{name}_sum") == pytest.approx(seconds)
        assert found.pop(f"{name}_count") == 1
    assert found.pop("slm_inter_token_latency_seconds_sum") == pytest.approx(0.4)
    assert found == {
        "slm_request_queue_time_seconds_count": 1,
        "slm_inter_token_latency_seconds_count": 2,
        "slm_request_prompt_tokens_count": 1,
        "slm_request_prompt_tokens_sum": 3,
        "slm_request_generation_tokens_count": 1,
        "slm_request_generation_tokens_sum": 3,
        'slm_prompt_tokens_total{adapter="mine@1",base="smol"}': 3,
        'slm_generation_tokens_total{adapter="mine@1",base="smol"}': 3,
        'slm_request_success_total{adapter="mine@1",base="smol",finished_reason="stop"}': 1,
    }


def test_tokens_that_come_together_share_the_time(redis: Redis, metrics: WorkerMetrics, clock: Clock) -> None:
    job = claimed(redis)
    with metrics.in_engine(job, sequence(job)):
        metrics.note_output(output(job, 1), clock.now)
        clock.now += 0.3
        metrics.note_output(output(job, 2, 3, 4, total=4), clock.now)
    found = series(metrics.to_wire())
    assert found["slm_inter_token_latency_seconds_count"] == 3
    assert found["slm_inter_token_latency_seconds_sum"] == pytest.approx(0.3)
    assert found['slm_generation_tokens_total{adapter="base",base=""}'] == 4


def test_a_later_attempt_counts_its_own_tokens_but_no_first_token(
    redis: Redis, metrics: WorkerMetrics, clock: Clock
) -> None:
    job = claimed(redis, attempts=2)
    metrics.note_claim(job)
    with metrics.in_engine(job, sequence(job, committed=(1, 2))):
        metrics.note_output(output(job, 3, total=3, end=FinishReason.LENGTH), clock.now)
    found = series(metrics.to_wire())
    assert not [name for name in found if "first_token" in name or "queue_time" in name]
    assert found['slm_generation_tokens_total{adapter="base",base=""}'] == 1
    assert found["slm_request_generation_tokens_sum"] == 3
    assert found["slm_e2e_request_latency_seconds_count"] == 1


def test_an_output_of_a_cancelled_generation_is_not_counted(redis: Redis, metrics: WorkerMetrics, clock: Clock) -> None:
    job = claimed(redis)
    with metrics.in_engine(job, sequence(job)):
        pass
    metrics.note_output(output(job, 1), clock.now)
    assert series(metrics.to_wire()) == {}


def test_the_models_that_ran_least_recently_lose_their_series(
    redis: Redis, metrics: WorkerMetrics, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_labels, "MAX_MODELS", 3)
    for name in "abcdef":
        publish(redis, name)

    def run(job_id: str, model: str) -> None:
        job = claimed(redis, job_id, model=model)
        with metrics.in_engine(job, sequence(job)):
            metrics.note_output(output(job, 1, end=FinishReason.STOP), clock.now)

    lasting = claimed(redis, "lasting", model="a")
    with metrics.in_engine(lasting, sequence(lasting)):
        for job_id, model in enumerate("bcbd"):
            run(str(job_id), model)
        run("5", "e")
        metrics.note_output(output(lasting, 1), clock.now)
        found = series(metrics.to_wire())
    names = {re.findall('adapter="(.*?)"', name)[0] for name in found if "adapter=" in name}
    assert names == {"a@1", "d@1", "e@1"}
    assert sum("adapter=" in name for name in found) == 8  # a@1 runs, and has not ended


def test_the_engines_load_is_read_on_demand(redis: Redis) -> None:
    publish(redis, "mine")
    gate, outputs, job = Gate(permits=1), Outputs(), claimed(redis, model="smol")
    with ExitStack() as stack:
        engine = fake_engine(outputs, runner=FakeRunner(endless(), gate=gate))
        engine.start()
        stack.callback(engine.stop)
        stack.callback(gate.open)
        model: Any = SimpleNamespace(engine=engine, adapters=SimpleNamespace(ids=("one", "two"), num_bytes=5000))
        metrics = WorkerMetrics(lambda: model)
        stack.enter_context(metrics.in_engine(job, sequence(job, "base")))
        engine.submit(sequence(job))
        gate.wait_until_blocked()
        found = series(metrics.to_wire())
    assert found["slm_num_requests_running"] == 1
    assert (found["slm_adapters_loaded"], found["slm_adapter_memory_bytes"]) == (2, 5000)
    assert found['slm_adapter_requests_running{adapter="base",base="smol"}'] == 1
    assert 0 < found["slm_kv_cache_usage_perc"] <= 1


def test_loads_and_evictions_of_adapters_are_counted(metrics: WorkerMetrics) -> None:
    for succeeded in (True, True, False):
        metrics.note_adapter_load(0.3, succeeded=succeeded)
    metrics.note_adapter_eviction()

    found = series(metrics.to_wire())
    assert found['slm_adapter_loads_total{outcome="succeeded"}'] == 2
    assert found['slm_adapter_loads_total{outcome="failed"}'] == 1
    assert found["slm_adapter_load_seconds_count"] == 3
    assert found["slm_adapter_evictions_total"] == 1


def test_without_a_model_there_is_no_load(metrics: WorkerMetrics) -> None:
    assert "slm_num_requests_running" not in metrics.to_wire()


class Board(MetricsStore):
    """Counts the writes."""

    def __init__(self, redis: Redis) -> None:
        super().__init__(redis)
        self.written: list[Any] = []

    def put(self, worker_id: str, figures: str, *, ttl_s: float) -> None:
        self.written.append(json.loads(figures))
        super().put(worker_id, figures, ttl_s=ttl_s)


def test_a_worker_reports_at_its_pace_and_writes_only_changes(redis: Redis, clock: Clock) -> None:
    metrics_store, figures = Board(redis), ["[]"]
    reporter = MetricsReporter(metrics_store, "w", lambda: figures[0], clock)
    reporter.report()
    reporter.report()
    assert len(metrics_store.written) == 1
    clock.now += REPORT_EVERY_S
    reporter.report()
    assert len(metrics_store.written) == 1, "nothing was new"
    figures[0] = '[["slm_x", "gauge", "X.", []]]'
    clock.now += REPORT_EVERY_S
    reporter.report()
    assert [one.name for one in metrics_store.read(["w"])["w"]] == ["slm_x"]


def test_metrics_that_redis_has_forgotten_are_written_again(redis: Redis, clock: Clock) -> None:
    metrics_store = Board(redis)
    reporter = MetricsReporter(metrics_store, "w", lambda: "[]", clock)
    reporter.report()
    redis.flushall()
    clock.now += REPORT_EVERY_S
    reporter.report()
    assert metrics_store.read(["w"]) == {"w": []}


def test_metrics_that_could_not_be_sent_are_sent_with_the_next_heartbeat(
    redis: Redis, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics_store = Board(redis)
    reporter = MetricsReporter(metrics_store, "w", lambda: "[]", clock)
    with monkeypatch.context() as broken:
        broken.setattr(metrics_store, "keep", lambda *_, **__: 1 / 0)
        broken.setattr(metrics_store, "put", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            reporter.report()
    reporter.report()
    assert metrics_store.read(["w", "other"]) == {"w": []}
