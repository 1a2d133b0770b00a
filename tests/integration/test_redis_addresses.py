"""The API and a worker, as processes, with each kind of address that `SLM_REDIS_URL` accepts."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlencode

import pytest
import requests

from common.settings import ROOT, Settings
from deploy.data_folder import claim_data_dir
from deploy.redis import own_redis
from tests.cluster_set import PASSWORD, running_redis_cluster
from tests.free_port import free_port
from tests.missing import skip_or_fail
from tests.processes import Cluster, is_up, running_cluster, wait_for
from tests.redis_server import RedisServer, running_server
from tests.tls_proxy import Certificate, can_make_certificates, make_certificate, tls_proxy

NOBODY = "redis://127.0.0.1:9/0"
# The rights in docs/redis.md.
LEAST = "~slm* ~_kombu.* ~*.pidbox ~unacked* &slm* &/0.* +@all -@admin -@dangerous +info +keys"


@contextmanager
def socket(folder: Path) -> Iterator[str]:
    claim = claim_data_dir(folder / "a data folder")
    server = own_redis.embedded(Settings(data_dir=folder / "a data folder"))
    with own_redis.running(server, claim.inherited):
        yield server.url
    claim.release()


@contextmanager
def password(folder: Path) -> Iterator[str]:
    with running_server(folder, ":secret", ["--requirepass", "secret"]) as server:
        yield server.url


def certificate(folder: Path) -> tuple[Certificate, str]:
    """A certificate for servers and clients, and the options that name it in a URL."""
    if not can_make_certificates():
        skip_or_fail("there is no openssl")
    made = make_certificate(folder)
    files = {"ssl_ca_certs": made.certificate, "ssl_certfile": made.certificate, "ssl_keyfile": made.key}
    return made, urlencode(files)


@contextmanager
def tls(folder: Path) -> Iterator[str]:
    made, options = certificate(folder)
    user = ["--user", "ann", "on", ">secret", *LEAST.split(), "+flushall", "--user", "default", "off"]
    with running_server(folder, "ann:secret", user) as server, tls_proxy(server.port, made) as port:
        yield f"rediss://ann:secret@127.0.0.1:{port}?{options}"


@contextmanager
def cluster_tls(folder: Path) -> Iterator[str]:
    """Three masters that announce the ports of TLS proxies; the URL names the two without our keys."""
    made, options = certificate(folder)
    with running_redis_cluster(folder) as nodes, ExitStack() as stack:
        ports = [stack.enter_context(tls_proxy(node.port, made)) for node in nodes.nodes]
        for node, port in zip(nodes.nodes, ports, strict=True):
            nodes.ask(node, "CONFIG", "SET", "cluster-announce-port", str(port))

        def announced(node: RedisServer) -> list[int]:
            return sorted(master[1] for _, _, master in nodes.ask(node, "CLUSTER", "SLOTS"))

        wait_for("the ports to be known", lambda: all(announced(node) == sorted(ports) for node in nodes.nodes))
        hosts = ",".join(f"127.0.0.1:{port}" for port in ports[1:])
        yield f"rediss+cluster://:{PASSWORD}@{hosts}?{options}"


@contextmanager
def served(url: str, folder: Path) -> Iterator[str]:
    """The base URL of a running API, with a worker."""
    with running_cluster(url, folder, SLM_DRAIN_S="1") as cluster:
        port = free_port()
        cluster.start_worker("a")
        cluster.start_api(port, CELERY_BROKER_URL=NOBODY, SCRIPT_NAME="/nowhere", PROMETHEUS_MULTIPROC_DIR="/nowhere")
        cluster.wait_until_taking_jobs("a")
        base = f"http://127.0.0.1:{port}"
        wait_for("the API", lambda: is_up(base))
        yield base


@pytest.mark.parametrize("kind", [socket, password, tls, cluster_tls])
def test_a_job_goes_through_the_api_celery_and_a_worker(kind: object, tmp_path: Path) -> None:
    with kind(tmp_path) as url, served(url, tmp_path) as base:  # type: ignore[operator]
        answer = requests.post(f"{base}/slm/generate", json={"prompt": "hello"}, timeout=180)
        assert answer.json()["response"] == "hello"


def test_a_worker_started_by_hand_uses_the_redis_of_the_settings(tmp_path: Path) -> None:
    code = "from worker.app import app; print(app.connection_for_read().as_uri(), app.connection_for_write().as_uri())"
    steering = dict.fromkeys(("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL"), NOBODY)
    env = os.environ | steering | {"SLM_REDIS_URL": "redis://redis.example/3"}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == {"redis://:**@redis.example:6379/3"}


def test_a_redis_with_an_untrusted_certificate_is_refused(tmp_path: Path) -> None:
    with tls(tmp_path) as url:
        cluster = Cluster(url.partition("?")[0], tmp_path, {"SLM_DRAIN_S": "1"})
        worker = cluster.start_worker("a")
        try:
            wait_for("the worker to refuse", lambda: "certificate verify failed" in worker.log.read_text())
        finally:
            cluster.stop()
