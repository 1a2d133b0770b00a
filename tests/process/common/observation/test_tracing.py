"""A request as one trace: the API, the wait in the queue, the worker, the first token."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from redis import Redis

from api.app import create_app
from common.observation.otel import Tracer
from common.observation.tracing import start_tracing
from common.redis.subscriber import Subscriber
from common.settings import ROOT, Settings, SettingsError
from tests.api_in_process import REPORT
from tests.fake_redis import fake_redis
from tests.scripted_worker import ScriptedWorker, answer
from worker.jobs.active import ActiveJob
from worker.observation.metrics import Timeline, WorkerMetrics
from worker.observation.model_labels import ModelLabels
from worker.observation.traces import Traces

TRACE, CALLER = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{CALLER}-01"


@pytest.fixture
def redis() -> Iterator[Redis]:
    client = fake_redis()
    yield client
    client.close()


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracer(exporter: InMemorySpanExporter) -> Tracer:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return Tracer(provider)


@pytest.fixture
def worker(redis: Redis) -> Iterator[ScriptedWorker]:
    with ScriptedWorker(redis, answer("a", "b"), report=REPORT) as worker:
        yield worker


@pytest.fixture
def client(redis: Redis, tracer: Tracer, worker: ScriptedWorker) -> Iterator[Any]:
    subscriber = Subscriber(redis)
    subscriber.start()
    app = create_app(Settings(), redis=redis, dispatch=worker.dispatch, subscriber=subscriber, tracer=tracer)
    yield app.test_client()
    subscriber.stop()


def spans(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in exporter.get_finished_spans()}


def parent_of(span: ReadableSpan) -> str | None:
    return None if span.parent is None else f"{span.parent.span_id:016x}"


def id_of(span: ReadableSpan) -> str:
    return f"{span.context.span_id:016x}"


def test_a_request_is_a_span_of_its_clients_trace_and_its_job_is_a_child(
    client: Any, exporter: InMemorySpanExporter, worker: ScriptedWorker
) -> None:
    headers = {"traceparent": TRACEPARENT, "X-Request-Id": "r-1"}
    done = client.post("/slm/generate", json={"prompt": "a secret"}, headers=headers, buffered=True)
    span = spans(exporter)["POST /slm/generate"]
    assert f"{span.context.trace_id:032x}" == TRACE
    assert parent_of(span) == CALLER
    assert span.kind is SpanKind.SERVER
    assert span.attributes == {
        "http.request.method": "POST",
        "url.path": "/slm/generate",
        "http.route": "/slm/generate",
        "http.response.status_code": 200,
        "slm.request_id": "r-1",
        "slm.owner": "anonymous",
        "slm.job_id": done.json["job_id"],
    }
    assert worker.store.get(done.json["job_id"]).traceparent == f"00-{TRACE}-{id_of(span)}-01"


@pytest.mark.parametrize("sent", [None, "", "nonsense", f"00-{'0' * 32}-{CALLER}-01"])
def test_without_a_valid_parent_a_new_trace_begins(
    client: Any, exporter: InMemorySpanExporter, sent: str | None
) -> None:
    client.get("/slm/info", headers={} if sent is None else {"traceparent": sent}, buffered=True)
    assert parent_of(spans(exporter)["GET /slm/info"]) is None


def test_only_the_servers_failures_mark_the_span_as_failed(
    client: Any, exporter: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.get("/nothing", buffered=True)
    assert spans(exporter)["GET"].status.status_code is StatusCode.UNSET
    monkeypatch.setattr("api.overview.Overview.snapshot", lambda _: 1 / 0)
    client.get("/slm/info", buffered=True)
    assert spans(exporter)["GET /slm/info"].status.status_code is StatusCode.ERROR


def test_probes_leave_no_spans(client: Any, exporter: InMemorySpanExporter) -> None:
    for path in ("/healthz", "/readyz", "/metrics"):
        client.get(path, buffered=True)
    assert spans(exporter) == {}


def claimed(client: Any, worker: ScriptedWorker, redis: Redis) -> ActiveJob:
    """A job of a request with TRACEPARENT, claimed as a real worker does it."""
    worker.stop_looking()
    headers = {"traceparent": TRACEPARENT}
    job_id = client.post("/slm/generate", json={"prompt": "Hi", "async": True}, headers=headers).json["job_id"]
    redis.hincrby(f"slm:job:{job_id}", "created_ms", -3000)
    claim = worker.store.claim(job_id, "w", lease_s=60)
    assert claim is not None
    return ActiveJob(claim, worker.store)


def timeline(metrics: WorkerMetrics, submitted_at: float) -> Timeline:
    counter = metrics._instruments.generation_tokens
    return Timeline(
        ModelLabels("mine@1", "smol"),
        counter,
        submitted_at,
        submitted_at,
        True,
        submitted_at + 0.25,
        submitted_at + 1.0,
    )


def seconds(span: ReadableSpan) -> float:
    assert span.start_time is not None
    assert span.end_time is not None
    return (span.end_time - span.start_time) / 1e9


def test_the_worker_continues_the_requests_trace(
    client: Any, exporter: InMemorySpanExporter, tracer: Tracer, worker: ScriptedWorker, redis: Redis
) -> None:
    job = claimed(client, worker, redis)
    exporter.clear()
    with Traces(tracer, "w").attempt(job) as trace:
        trace.note_engine(timeline(WorkerMetrics(lambda: None), time.monotonic()))
    found = spans(exporter)
    attempt = found["slm.generate"]
    assert {f"{span.context.trace_id:032x}" for span in found.values()} == {TRACE}
    request_span = str(job.job.traceparent).split("-")[2]
    assert (parent_of(found["queue"]), parent_of(attempt)) == (request_span, request_span)
    assert {parent_of(found[name]) for name in ("prefill", "decode")} == {id_of(attempt)}
    assert attempt.kind is SpanKind.CONSUMER
    assert attempt.attributes is not None
    assert attempt.attributes["slm.job_id"] == job.id
    assert attempt.attributes["slm.attempt"] == 1
    assert (attempt.attributes["slm.adapter"], attempt.attributes["slm.base"]) == ("mine@1", "smol")
    assert [event.name for event in attempt.events] == ["first_token"]
    assert attempt.events[0].timestamp == pytest.approx(found["prefill"].end_time, abs=1e7)
    assert seconds(found["queue"]) == pytest.approx(job.waited_s, abs=0.5)
    assert seconds(found["prefill"]) == pytest.approx(0.25, abs=0.01)
    assert seconds(found["decode"]) == pytest.approx(0.75, abs=0.01)


def test_an_attempt_that_fails_says_so(
    client: Any, exporter: InMemorySpanExporter, tracer: Tracer, worker: ScriptedWorker, redis: Redis
) -> None:
    job = claimed(client, worker, redis)
    with pytest.raises(ZeroDivisionError), Traces(tracer, "w").attempt(job):
        raise ZeroDivisionError("a secret")
    status = spans(exporter)["slm.generate"].status
    assert (status.status_code, status.description) == (StatusCode.ERROR, "ZeroDivisionError")


def test_without_a_collector_nothing_is_traced_or_loaded(client: Any, worker: ScriptedWorker, redis: Redis) -> None:
    job = claimed(client, worker, redis)
    with Traces(None, "w").attempt(job) as trace:
        trace.note_engine(timeline(WorkerMetrics(lambda: None), time.monotonic()))
    assert start_tracing(Settings(), "slm") is None
    code = "import sys, api.wsgi, worker.runtime; print('common.observation.otel' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_collector_without_the_packages_gives_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.observation.tracing._EXPORTER", "opentelemetry.that_is_not_installed")
    with pytest.raises(SettingsError, match=r"pip install -r requirements/tracing\.txt"):
        start_tracing(Settings(otlp_endpoint="http://127.0.0.1:4318"), "slm")
