"""What an operator sees of a request on its way: one id through the processes' logs, and nothing that is private."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from deploy.redis_server import free_port
from tests.processes import Cluster, running_cluster, wait_for
from tests.redis_server import RedisServer

pytestmark = pytest.mark.integration

TIMEOUT_S = 30
SECRETS = ("the prompt that nobody logs", "whsec_" + "c2VjcmV0" * 4, "the-key")


@pytest.fixture
def server(redis_server: RedisServer, tmp_path: Path) -> Iterator[tuple[Cluster, str]]:
    """A worker and an API that log JSON at DEBUG; the API's URL."""
    port = free_port(0)
    shared = {"SLM_LOG_FORMAT": "json", "SLM_LOG_LEVEL": "DEBUG", "SLM_WEBHOOK_SECRET": SECRETS[1]}
    with running_cluster(redis_server.url, tmp_path, **shared) as cluster:
        cluster.start_api(port)
        cluster.start_worker("w1")
        cluster.wait_until_taking_jobs("w1")
        url = f"http://127.0.0.1:{port}"
        wait_for("the API", lambda: is_up(url))
        yield cluster, url


def is_up(url: str) -> bool:
    try:
        return requests.get(f"{url}/healthz", timeout=TIMEOUT_S).ok
    except requests.ConnectionError:
        return False


def json_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a log but Celery's banner, which is for people."""
    return [dict(json.loads(line)) for line in path.read_text().splitlines() if line.startswith("{")]


def test_one_id_leads_through_the_logs_of_both_processes(server: tuple[Cluster, str]) -> None:
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
    at_worker = wait_for("the worker's line", lambda: found(worker_log, "worker.job_runner"))
    assert {(line["job_id"], line["attempt"]) for line in at_worker} == {(job_id, 1)}
    logs = api_log.read_text() + worker_log.read_text()
    assert [secret for secret in SECRETS if secret in logs] == []
