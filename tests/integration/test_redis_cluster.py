"""A Redis Cluster: what a job, its reader and a worker do when the master that has their keys fails or hands over."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from common.errors import RedisUnavailable
from common.fleet import Fleet, WorkerReport
from common.jobs import store as job_store
from common.jobs.job import JobKind
from common.jobs.store import JobOptions, JobStore
from common.redis.client import connect
from tests.cluster_set import ClusterSet, running_redis_cluster
from tests.free_port import free_port
from tests.integration.redis_failover import check_that_a_frozen_primary_is_left
from tests.processes import is_up, running_cluster, wait_for


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterSet]:
    with running_redis_cluster(tmp_path_factory.mktemp("cluster"), replicas=1) as made:
        yield made


def test_streams_and_the_queue_follow_the_keys(nodes: ClusterSet, tmp_path: Path) -> None:
    with running_cluster(nodes.url, tmp_path, SLM_DRAIN_S="1", FAKE_STEP_MS="25") as cluster:
        port = free_port()
        cluster.start_worker("a")
        cluster.start_api(port, SLM_REDIS_REPLICAS="1")
        cluster.wait_until_taking_jobs("a")
        base = f"http://127.0.0.1:{port}"
        wait_for("the API", lambda: is_up(base))

        def generate(prompt: str) -> str:
            answer = requests.post(f"{base}/slm/generate", json={"prompt": prompt}, timeout=180)
            return str(answer.json()["response"])

        assert generate("hello") == "hello"
        old = nodes.primary
        _, reader = cluster.stream("endless", max_new_tokens=200)
        wait_for("tokens", lambda: len(reader.events) > 20)
        old.kill()
        nodes.wait_for_successor(old)
        reader.to_end()
        assert reader.text == "abc " * 50
        old.start()
        nodes.wait_until_complete()
        assert generate("after a failover") == "after a failover"

        _, reader = cluster.stream("endless", max_new_tokens=200)
        wait_for("tokens", lambda: len(reader.events) > 20)
        nodes.ask(old, "CLUSTER", "FAILOVER")
        reader.to_end()
        assert reader.text == "abc " * 50
        wait_for("the old master", lambda: nodes.primary is old)
        nodes.wait_until_complete()
        assert generate("after handing over") == "after handing over"


def test_a_repeated_job_waits_for_replicas_as_the_first_one_did(
    nodes: ClusterSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_store, "REPLICAS_WAIT_S", 0.2)
    options = JobOptions(idempotency_key="k", fingerprint="f")
    replica = next(server for server in nodes.servers if server is not nodes.primary)
    with connect(nodes.url) as redis:
        Fleet(redis).beat(WorkerReport("w", "h", 1, slots=2), ttl_s=60)
    replica.pause()
    try:
        for name in ("a", "b"):
            store = JobStore(connect(nodes.url), lambda _: None, job_ttl_s=60, replicas=1)
            with pytest.raises(RedisUnavailable, match="Only 0 of the 1 replicas"):
                store.submit(name, JobKind.GENERATE, {}, owner="o", max_queue=9, options=options)
    finally:
        replica.resume()


def test_a_frozen_master_is_left_by_commands_and_by_subscriptions(nodes: ClusterSet) -> None:
    check_that_a_frozen_primary_is_left(nodes)
