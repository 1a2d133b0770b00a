"""The alert rules and the dashboard, in a real Prometheus that reads a real server."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import requests
import yaml

from common.jobs.job import JobKind
from common.owners.api_keys import ApiKeyStore, Role
from common.settings import ROOT
from tests.free_port import free_port
from tests.missing import need_program
from tests.processes import running_cluster, wait_for
from tests.redis_server import RedisServer

FOLDER = ROOT / "deploy" / "monitoring"
RULES = FOLDER / "prometheus" / "rules.yml"
TIMEOUT_S = 60
# Series that only exist after something that this server has not done.
NOT_HERE = {"Evictions and loads of adapters", "Failed jobs per minute, by kind", "Server errors, by route"}
NOT_HERE |= {"Training: tokens per second"}


def rules() -> dict[str, str]:
    (group,) = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule["expr"] for rule in group["rules"]}


def panels() -> dict[str, list[str]]:
    """The queries of each panel, as Grafana sends them."""
    dashboard = json.loads((FOLDER / "grafana" / "dashboards" / "slm.json").read_text())
    found = {one["title"]: [target["expr"] for target in one["targets"]] for one in dashboard["panels"]}
    assert len(found) == len(dashboard["panels"])
    return {title: [query.replace("$__rate_interval", "1m") for query in queries] for title, queries in found.items()}


def promtool(*arguments: str) -> None:
    need_program("promtool")
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_fire_when_they_should_and_not_otherwise() -> None:
    promtool("test", "rules", str(RULES.with_name("rules_test.yml")))


def test_every_rule_is_tested_to_fire() -> None:
    tested = RULES.with_name("rules_test.yml").read_text()
    assert set(re.findall(r'alertname="(\w+)"', tested)) == rules().keys()


def test_prometheus_accepts_its_configuration() -> None:
    promtool("check", "config", "--syntax-only", str(FOLDER / "prometheus" / "prometheus.yml"))


def test_every_alert_is_explained_to_the_operator() -> None:
    guide = (ROOT / "docs" / "operations.md").read_text()
    assert [name for name in rules() if f"`{name}`" not in guide] == []


@contextmanager
def running_prometheus(folder: Path, target: str, key: str) -> Iterator[str]:
    """Start Prometheus with the configuration of the containers, but for addresses and intervals; yields its URL."""
    need_program("prometheus")
    (folder / "key").write_text(key)
    config = (FOLDER / "prometheus" / "prometheus.yml").read_text()
    changes = {"api:5000": target, "/etc/slm-key": f"{folder}/key", "15s": "1s", "[rules.yml]": f"[{RULES}]"}
    for old, new in changes.items():
        assert old in config
        config = config.replace(old, new)
    (folder / "prometheus.yml").write_text(config)
    port = free_port()
    where = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/series"]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            ["prometheus", *where, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log
        )
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for("Prometheus", lambda: process.poll() is not None or _is_ready(url))
        assert process.poll() is None, (folder / "prometheus.log").read_text()
        yield url
    finally:
        process.kill()
        process.wait()


def _is_ready(url: str) -> bool:
    with suppress(requests.ConnectionError):
        return requests.get(f"{url}/-/ready", timeout=TIMEOUT_S).ok
    return False


def ask(url: str, query: str) -> list[Any]:
    answer = requests.get(f"{url}/api/v1/query", params={"query": query}, timeout=TIMEOUT_S).json()
    assert answer["status"] == "success", (query, answer)
    return list(answer["data"]["result"])


@contextmanager
def watched_server(redis: RedisServer, folder: Path) -> Iterator[str]:
    """Yield a Prometheus that has read a server with a worker before and after its jobs. The server has API keys."""
    with running_cluster(redis.url, folder) as cluster:
        secret = ApiKeyStore(cluster.redis).create("prometheus", Role.ADMIN)
        port = free_port()
        cluster.start_api(port)
        cluster.start_worker("w1", FAKE_ADAPTERS="1")
        cluster.wait_until_taking_jobs("w1")
        with running_prometheus(folder, f"127.0.0.1:{port}", secret) as url:
            wait_for("the first values", lambda: ask(url, 'slm_workers{state="ready"} == 1'))
            for _ in range(3):
                cluster.finish(JobKind.GENERATE)
            yield url
        cluster.redis.flushall()


def test_every_query_works_on_the_metrics_of_a_real_server(redis_server: RedisServer, tmp_path: Path) -> None:
    """Those of the dashboard find something; those of the documentation are valid; no alert is raised."""
    with watched_server(redis_server, tmp_path) as url:
        wait_for("data for every panel", lambda: empty_panels(url) <= NOT_HERE)
        for query in documented():
            ask(url, query)
        groups = requests.get(f"{url}/api/v1/rules", timeout=TIMEOUT_S).json()["data"]["groups"]
        states = {rule["name"]: (rule["state"], rule["health"]) for group in groups for rule in group["rules"]}
        assert states == dict.fromkeys(rules(), ("inactive", "ok"))


def empty_panels(url: str) -> set[str]:
    return {title for title, queries in panels().items() if not all(ask(url, query) for query in queries)}


def documented() -> list[str]:
    text = (ROOT / "docs" / "observability.md").read_text()
    blocks = re.findall(r"```promql\n(.*?)```", text, re.DOTALL)
    lines = [line.partition("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]
