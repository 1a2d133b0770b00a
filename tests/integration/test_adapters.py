"""Real workers on a real Redis, with a fake model whose adapters answer differently, so that a mix-up is seen."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from common.adapters.records import VersionFacts
from common.adapters.registry import AdapterRegistry
from common.adapters.store import AdapterStore
from common.errors import ModelUnavailable
from common.jobs.events import EventType
from common.jobs.job import JobKind, JobState
from common.jobs.store import JobOptions
from tests.processes import Cluster, Reader, running_cluster, wait_for
from tests.redis_server import RedisServer

SLOW = {"FAKE_STEP_MS": "20"}
LOADING = ["Loading SLM model...", "Model loaded on cpu", "Generating response..."]


@pytest.fixture
def cluster(redis_server: RedisServer, tmp_path: Path) -> Iterator[Cluster]:
    with running_cluster(redis_server.url, tmp_path, SLM_LEASE_S="2", SLM_DRAIN_S="1") as cluster:
        yield cluster


@pytest.fixture
def registry(cluster: Cluster) -> AdapterRegistry:
    return AdapterRegistry(cluster.redis)


Publish = Callable[..., str]


@pytest.fixture
def publish(cluster: Cluster, registry: AdapterRegistry, tmp_path: Path) -> Publish:
    store = AdapterStore(Path(cluster.env["SLM_DATA_DIR"]) / "adapters")
    numbers = itertools.count()

    def one(name: str, **config: object) -> str:
        """Publish a version of an adapter, which begins its answers with its name; return its id."""
        folder = tmp_path / f"source-{next(numbers)}"
        folder.mkdir()
        (folder / "adapter_config.json").write_text(json.dumps({"says": name} | config))
        with store.copied(folder) as content, store.locked():
            store.put(content)
        registry.register(name, VersionFacts(content.id, "fake"))
        return content.id

    return one


def ask(cluster: Cluster, model: str, prompt: str = "hello") -> tuple[str, Reader]:
    return cluster.stream(prompt, JobOptions(model=model), temperature=0.0, max_new_tokens=500)


def statuses(reader: Reader) -> list[str]:
    return [event.data["status"] for event in reader.to_end() if event.type is EventType.STATUS]


def in_memory(cluster: Cluster, worker: str = "a") -> set[str]:
    report = cluster.worker(worker)
    return set() if report is None else set(report.adapters)


def test_every_answer_is_its_own_adapters_although_a_worker_is_killed(cluster: Cluster, publish: Publish) -> None:
    names = [f"expert-{number}" for number in range(4)]
    for name in names:
        publish(name)
    for worker in "ab":
        cluster.start_worker(worker, SLM_MAX_NUM_SEQS="8", **SLOW)
    cluster.wait_until_taking_jobs("a", "b")
    prompt = "tell me everything that you know " * 3
    models = [*names, "fake"] * 4
    streams = [(model, *ask(cluster, model, prompt)) for model in models]
    wait_for("some tokens", lambda: sum(bool(reader.text) for *_, reader in streams) > 10)
    cluster.processes("a")[0].kill()

    for model, job_id, reader in streams:
        events = reader.to_end()
        assert reader.text == (prompt if model == "fake" else f"{model}: {prompt}")
        assert [event.seq for event in events] == list(range(len(events)))
        record = cluster.store.get(job_id)
        assert (record.state, record.model) == (JobState.SUCCEEDED, model if model == "fake" else f"{model}@1")
    assert {cluster.store.get(job_id).attempt for _, job_id, _ in streams} >= {1, 2}


def test_a_job_keeps_its_version_when_a_newer_one_is_published(cluster: Cluster, publish: Publish) -> None:
    publish("support", says="old")
    first = cluster.start_worker("a", **SLOW)
    cluster.wait_until_taking_jobs("a")
    job_id, reader = ask(cluster, "support", "a long question " * 5)
    wait_for("some tokens", lambda: reader.text)
    publish("support", says="new")
    first.kill()
    cluster.start_worker("b", **SLOW)
    _, later = ask(cluster, "support")

    later.to_end()
    reader.to_end()
    assert reader.text == "old: " + "a long question " * 5
    assert later.text == "new: hello"
    assert cluster.store.get(job_id).attempt == 2


def test_what_aliases_point_to_is_in_memory_before_a_worker_takes_jobs(
    cluster: Cluster, publish: Publish, registry: AdapterRegistry
) -> None:
    registry.note_base("fake", "fake")
    pinned, other = publish("one", seconds=1), publish("two")
    registry.set_alias("prod", "one", set_by="test")
    cluster.start_worker("a")
    cluster.wait_until_taking_jobs("a")
    assert in_memory(cluster) == {pinned}
    _, reader = ask(cluster, "prod")
    assert statuses(reader) == ["Generating response..."]

    registry.set_alias("prod", "two", set_by="test")

    wait_for("the alias's new target", lambda: other in in_memory(cluster))
    _, reader = ask(cluster, "prod")
    assert statuses(reader) == ["Generating response..."]
    assert reader.text == "two: hello"


def test_pins_and_adapters_come_back_after_an_unload(
    cluster: Cluster, publish: Publish, registry: AdapterRegistry
) -> None:
    registry.note_base("fake", "fake")
    pinned = publish("one")
    publish("two")
    registry.set_alias("prod", "one", set_by="test")
    cluster.start_worker("a", **SLOW)
    cluster.wait_until_taking_jobs("a")
    _, running = ask(cluster, "two", "a question " * 5)
    wait_for("some tokens", lambda: running.text)

    assert cluster.finish(JobKind.UNLOAD).state is JobState.SUCCEEDED
    running.to_end()
    assert running.text == "two: " + "a question " * 5
    assert in_memory(cluster) == set()
    assert cluster.finish(JobKind.LOAD).state is JobState.SUCCEEDED

    assert in_memory(cluster) == {pinned}
    _, reader = ask(cluster, "two")
    assert statuses(reader) == LOADING
    assert reader.text == "two: hello"


def test_a_slow_adapter_delays_only_its_own_jobs(cluster: Cluster, publish: Publish) -> None:
    publish("slow", seconds=5)
    publish("quick")
    cluster.start_worker("a")
    cluster.wait_until_taking_jobs("a")
    _, quick = ask(cluster, "quick")
    quick.to_end()
    _, waiting = ask(cluster, "slow")
    wait_for("the load to begin", lambda: waiting.events)
    cancelled_id, cancelled = ask(cluster, "slow")
    wait_for("the load to begin", lambda: cancelled.events)

    for model in ("quick", "fake", "quick"):
        _, reader = ask(cluster, model)
        reader.to_end()
    cluster.store.cancel(cancelled_id)
    assert cancelled.to_end()[-1].data["state"] == "cancelled"
    assert waiting.is_alive()
    assert statuses(waiting) == LOADING
    assert waiting.text == "slow: hello"


def test_a_broken_or_missing_adapter_fails_its_own_jobs_with_its_name(
    cluster: Cluster, publish: Publish, registry: AdapterRegistry
) -> None:
    publish("broken", error="its weights are damaged")
    publish("fine")
    registry.register("gone", VersionFacts("f" * 64, "fake"))
    damaged = publish("damaged")
    file = Path(cluster.env["SLM_DATA_DIR"]) / "adapters" / damaged / "adapter_config.json"
    file.chmod(0o600)
    file.write_text('{"says": "forged"}')
    cluster.start_worker("a")
    cluster.wait_until_taking_jobs("a")

    reasons = {"broken": "broken@1.*its weights", "gone": "gone@1.*not in", "damaged": "damaged@1.*are damaged"}
    for name, reason in reasons.items():
        for _ in range(2):
            job_id, reader = ask(cluster, name)
            reader.to_end()
            error = cluster.store.get(job_id).error
            assert isinstance(error, ModelUnavailable)
            with pytest.raises(ModelUnavailable, match=reason):
                raise error
        _, reader = ask(cluster, "fine")
        reader.to_end()
        assert reader.text == "fine: hello"


def test_memory_is_kept_within_the_budget(cluster: Cluster, publish: Publish) -> None:
    ids = {name: publish(name, bytes=40) for name in ("one", "two", "three", "four")}
    cluster.start_worker("a", SLM_ADAPTER_MEMORY="100")
    cluster.wait_until_taking_jobs("a")
    for _ in range(2):
        for name in ids:
            _, reader = ask(cluster, name)
            reader.to_end()
            assert reader.text == f"{name}: hello"

    wait_for("the last two to remain", lambda: in_memory(cluster) == {ids["three"], ids["four"]})
