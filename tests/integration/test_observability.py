"""What an operator sees of a request: one id in the logs of all processes, and nothing private."""

from __future__ import annotations

import gzip
import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import psutil
import pytest
import requests
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from prometheus_client.parser import text_string_to_metric_families

from tests.free_port import free_port
from tests.processes import Cluster, is_up, running_cluster, wait_for
from tests.redis_server import RedisServer

TIMEOUT_S = 90
SECRETS = ("the prompt that nobody logs", "whsec_" + "c2VjcmV0" * 4, "the-key")


@pytest.fixture
def server(redis_server: RedisServer, tmp_path: Path) -> Iterator[tuple[Cluster, str]]:
    """A worker and an API that log JSON at DEBUG; the API's URL."""
    port = free_port()
    shared = {"SLM_LOG_FORMAT": "json", "SLM_LOG_LEVEL": "DEBUG", "SLM_WEBHOOK_SECRET": SECRETS[1]}
    with running_cluster(redis_server.url, tmp_path, **shared) as cluster:
        cluster.start_api(port)
        cluster.start_worker("w1")
        cluster.wait_until_taking_jobs("w1")
        url = f"http://127.0.0.1:{port}"
        wait_for("the API", lambda: is_up(url))
        yield cluster, url


def json_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a log without Celery's banner."""
    return [dict(json.loads(line)) for line in path.read_text().splitlines() if line.startswith("{")]


def test_both_processes_log_the_same_request_id(server: tuple[Cluster, str]) -> None:
    cluster, url = server
    headers = {"X-Request-Id": "follow-me", "Authorization": f"Bearer {SECRETS[2]}"}
    body = {"prompt": SECRETS[0]}
    answer = requests.post(f"{url}/slm/generate?key={SECRETS[2]}", json=body, headers=headers, timeout=TIMEOUT_S)
    job_id = answer.json()["job_id"]
    api_log, worker_log = (cluster.processes(name)[0].log for name in ("api", "w1"))

    def found(path: Path, logger: str) -> list[dict[str, Any]]:
        lines = [line for line in json_lines(path) if line["logger"] == logger]
        return [line for line in lines if line.get("request_id") == "follow-me"]

    [at_api] = wait_for("the API's line", lambda: found(api_log, "api.observation.access_log"))
    assert (at_api["job_id"], at_api["status"], at_api["path"]) == (job_id, 200, "/slm/generate")
    at_worker = wait_for("the worker's line", lambda: found(worker_log, "worker.jobs.runner"))
    assert {(line["job_id"], line["attempt"]) for line in at_worker} == {(job_id, 1)}
    logs = api_log.read_text() + worker_log.read_text()
    assert [secret for secret in SECRETS if secret in logs] == []


def scrape(url: str) -> dict[str, float]:
    """Every series, as `name{a="b"}`, labels in order."""
    found = {}
    for family in text_string_to_metric_families(requests.get(f"{url}/metrics", timeout=TIMEOUT_S).text):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def test_the_api_shows_the_metrics_of_a_worker(server: tuple[Cluster, str]) -> None:
    cluster, url = server
    prompt = "twelve bytes"
    for _ in range(2):
        requests.post(f"{url}/slm/generate", json={"prompt": prompt}, timeout=TIMEOUT_S).raise_for_status()
    worker = cluster.worker("w1")
    assert worker is not None
    tokens = f'slm_generation_tokens_total{{adapter="base",base="fake",worker="{worker.id}"}}'
    found = wait_for("the worker's report", lambda: (now := scrape(url)).get(tokens) and now)
    of_worker = f'{{worker="{worker.id}"}}'
    assert found[tokens] == 2 * (len(prompt) + 1), "each byte, and the end"
    for name in ("time_to_first_token", "request_queue_time", "request_prefill_time", "request_decode_time"):
        assert found[f"slm_{name}_seconds_count{of_worker}"] == 2
    assert found[f"slm_e2e_request_latency_seconds_count{of_worker}"] == 2
    assert found[f"slm_inter_token_latency_seconds_count{of_worker}"] == 2 * len(prompt)
    assert found['slm_jobs_total{kind="generate",state="succeeded"}'] == 2


def test_several_api_processes_report_their_sum_and_a_dead_one_disappears(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    port = free_port()
    url, count = f"http://127.0.0.1:{port}", 40
    with running_cluster(redis_server.url, tmp_path) as cluster:
        api = cluster.start_api(port, "--workers", "3")
        wait_for("the API", lambda: is_up(url))
        pids = wait_for("all its processes", lambda: len(found := children_of(api.pid)) == 3 and found)
        for _ in range(count):
            requests.get(f"{url}/slm/info", timeout=TIMEOUT_S)
        asked = 'slm_http_requests_total{method="GET",route="/slm/info",status="200"}'
        wait_for("the last request to be counted, after its answer", lambda: scrape(url)[asked] == count)
        assert [scrape(url)[asked] for _ in range(10)] == [count] * 10, "from whichever process"
        with socket.create_connection(("127.0.0.1", port)) as half_sent:
            half_sent.sendall(b"POST /slm/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n")
            wait_for("it to be in progress", lambda: scrape(url)["slm_http_requests_in_progress"] == 2)
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            wait_for("new processes", lambda: len(found := children_of(api.pid)) == 3 and not found & pids)
        wait_for("the API", lambda: is_up(url))
        after = scrape(url)
        assert after[asked] == count
        assert after["slm_http_requests_in_progress"] == 1, "the scrape itself"
        assert api.terminate() == 0


class Collector(BaseHTTPRequestHandler):
    """Receives traces as an OpenTelemetry collector does."""

    spans: ClassVar[list[tuple[str, Span]]] = []  # with the service's name

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            [service] = [one.value.string_value for one in resource.resource.attributes if one.key == "service.name"]
            self.spans += [(service, span) for scope in resource.scope_spans for span in scope.spans]
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def collector() -> Iterator[str]:
    """Its URL."""
    Collector.spans = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Collector)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_both_processes_send_their_spans_of_one_trace(
    redis_server: RedisServer, tmp_path: Path, collector: str
) -> None:
    trace_id, port = "4bf92f3577b34da6a3ce929d0e0e4736", free_port()
    settings = {"SLM_OTLP_ENDPOINT": collector, "OTEL_BSP_SCHEDULE_DELAY": "200"}
    with running_cluster(redis_server.url, tmp_path, **settings) as cluster:
        cluster.start_api(port)
        cluster.start_worker("w1")
        cluster.wait_until_taking_jobs("w1")
        url = f"http://127.0.0.1:{port}"
        wait_for("the API", lambda: is_up(url))
        headers = {"traceparent": f"00-{trace_id}-00f067aa0ba902b7-01"}
        requests.post(f"{url}/slm/generate", json={"prompt": "Hi"}, headers=headers, timeout=TIMEOUT_S)
        wait_for("all spans", lambda: len(Collector.spans) >= 5)
    assert {(service, span.name) for service, span in Collector.spans} == {
        ("slm-api", "POST /slm/generate"),
        ("slm-worker", "queue"),
        ("slm-worker", "slm.generate"),
        ("slm-worker", "prefill"),
        ("slm-worker", "decode"),
    }
    assert {span.trace_id.hex() for _, span in Collector.spans} == {trace_id}


def children_of(pid: int) -> set[int]:
    return {child.pid for child in psutil.Process(pid).children()}
