"""A primary and a replica with a Sentinel: what a job, its reader and a worker do when the primary fails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.redis_failover import check_that_a_frozen_primary_is_left
from tests.processes import running_cluster, wait_for
from tests.sentinel_set import SentinelSet, running_sentinels


@pytest.fixture
def sentinels(tmp_path: Path) -> Iterator[SentinelSet]:
    with running_sentinels(tmp_path) as made:
        yield made


def test_streams_and_the_queue_continue_on_the_replica_when_the_primary_is_killed(
    sentinels: SentinelSet, tmp_path: Path
) -> None:
    with running_cluster(sentinels.url, tmp_path, SLM_DRAIN_S="1", FAKE_STEP_MS="25") as cluster:
        cluster.start_worker("a")
        cluster.wait_until_taking_jobs("a")
        _, reader = cluster.stream("endless", max_new_tokens=200)
        wait_for("tokens", lambda: len(reader.events) > 20)
        primary = sentinels.primary
        primary.kill()
        sentinels.wait_for_successor(primary)
        reader.to_end()
        assert reader.text == "abc " * 50
        _, second = cluster.stream("hello")
        second.to_end()
        assert second.text.strip() == "hello"


def test_a_frozen_primary_is_left_by_commands_and_by_subscriptions(sentinels: SentinelSet) -> None:
    check_that_a_frozen_primary_is_left(sentinels)
