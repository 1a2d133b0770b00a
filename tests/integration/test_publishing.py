"""Publishing with real worker processes and a fake model: whole or not at all, whoever dies."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.adapters.registry import AdapterRegistry
from common.adapters.store import AdapterStore
from common.adapters.uploads import Uploads
from common.jobs.job import JobKind, JobRecord, JobState
from common.redis import keys
from tests.adapter_files import packed, write_adapter
from tests.processes import Cluster, running_cluster, wait_for
from tests.redis_server import RedisServer

WORKERS = {"FAKE_ADAPTERS": "1", "SLM_BASE_MODEL": "gpt2", "SLM_LEASE_S": "2"}


@pytest.fixture
def cluster(redis_server: RedisServer, tmp_path: Path) -> Iterator[Cluster]:
    with running_cluster(redis_server.url, tmp_path, **WORKERS) as cluster:
        for name in "ab":
            cluster.start_worker(name)
        cluster.wait_until_taking_jobs("a", "b")
        yield cluster


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def submit(cluster: Cluster, uploads: Uploads, archive: bytes, name: str = "support") -> str:
    """Submit a publish job as the API does; returns its id."""
    with uploads.receive() as upload:
        upload.file.write(archive)
    job_id = str(uuid.uuid4())
    params = {"name": name, "upload": upload.id}
    cluster.store.submit(job_id, JobKind.PUBLISH, params, owner="test", max_queue=100)
    return job_id


def ended(cluster: Cluster, job_id: str) -> JobRecord:
    return wait_for("the job to end", lambda: (job := cluster.store.get(job_id)).state.is_terminal and job)


def test_an_upload_is_checked_kept_and_registered(cluster: Cluster, tmp_path: Path, data: Path) -> None:
    registry, store, uploads = (
        AdapterRegistry(cluster.redis),
        AdapterStore(data / "adapters"),
        Uploads(data / "uploads"),
    )
    for number, value in enumerate([1.0, 2.0], start=1):
        job = ended(cluster, submit(cluster, uploads, packed(write_adapter(tmp_path / "mine", value))))
        assert job.result is not None, job.error
        assert (job.result["version"], job.result["is_new"]) == (number, True)
    ids = {version.facts.id for version in registry.versions("support")}
    assert {store.folder(adapter_id).name for adapter_id in ids} == store.ids() == ids
    assert list((data / "uploads").iterdir()) == []


@pytest.mark.parametrize(
    ("archive", "words"),
    [
        (b"no archive", "The archive cannot be read"),
        (
            None,
            "'support' cannot be used on base model 'fake': lora_A of model.layers.0.self_attn.q_proj is (2, 8)",
        ),
    ],
    ids=["no archive", "another rank"],
)
def test_what_cannot_be_served_fails_with_the_reason_and_leaves_nothing(
    cluster: Cluster, tmp_path: Path, data: Path, archive: bytes | None, words: str
) -> None:
    wrong = write_adapter(tmp_path / "wrong")
    config = wrong / "adapter_config.json"
    config.write_text(config.read_text().replace('"r": 2', '"r": 3'))
    job = ended(cluster, submit(cluster, Uploads(data / "uploads"), packed(wrong) if archive is None else archive))
    assert job.state is JobState.FAILED
    assert job.error is not None
    assert (job.error.status, job.error.param) == (400, "file")
    assert words in job.error.message
    assert AdapterRegistry(cluster.redis).names() == []
    assert AdapterStore(data / "adapters").ids() == set()
    assert list((data / "uploads").iterdir()) == []


def test_another_worker_publishes_if_the_first_is_killed(cluster: Cluster, tmp_path: Path, data: Path) -> None:
    store, uploads = AdapterStore(data / "adapters"), Uploads(data / "uploads")
    with store.locked():  # so that the first worker waits
        job_id = submit(cluster, uploads, packed(write_adapter(tmp_path / "mine")))
        worker = wait_for("a worker to begin", lambda: cluster.redis.hget(keys.job(job_id), "worker"))
        time.sleep(0.5)
        [process] = cluster.processes(worker.partition("@")[0])
        process.kill()
    job = ended(cluster, job_id)
    assert (job.state, job.attempt) == (JobState.SUCCEEDED, 2)
    [version] = AdapterRegistry(cluster.redis).versions("support")
    assert store.ids() == {version.facts.id}
    assert list((data / "uploads").iterdir()) == []
