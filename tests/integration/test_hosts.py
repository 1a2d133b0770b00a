"""Workers of several hosts: each with its own data folder, a real API between them, and adapters that all can serve."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from redis import Redis

from common.adapters.store import AdapterStore
from common.jobs.job import JobState
from common.jobs.store import JobOptions
from common.owners.api_keys import ApiKeyStore, Role
from tests.adapter_files import packed, write_adapter
from tests.api_process import ApiProcess, running_api
from tests.processes import Cluster, running_cluster, wait_for
from tests.redis_server import RedisServer

WORKERS = {"FAKE_ADAPTERS": "1", "SLM_BASE_MODEL": "gpt2"}


class Hosts:
    """An API with its data folder, and workers with others."""

    def __init__(self, cluster: Cluster, api: ApiProcess, folder: Path) -> None:
        self.cluster, self.api, self._folder = cluster, api, folder
        keys = ApiKeyStore(cluster.redis)
        self.admin, self.worker_key = keys.create("root", Role.ADMIN), keys.create("workers", Role.WORKER)

    def data(self, host: str) -> Path:
        return self._folder / host

    def store(self, host: str) -> AdapterStore:
        return AdapterStore(self.data(host) / "adapters")

    def start_worker(self, host: str, **env: str) -> None:
        own = {"SLM_DATA_DIR": str(self.data(host)), "SLM_API_URL": self.api.url, "SLM_WORKER_KEY": self.worker_key}
        self.cluster.start_worker(host, **(own | env))
        self.cluster.wait_until_taking_jobs(host)

    def publish(self, folder: Path, name: str = "support") -> requests.Response:
        headers = {"Authorization": f"Bearer {self.admin}", "Content-Type": "application/gzip"}
        url = f"{self.api.url}/slm/adapters?name={name}"
        return requests.post(url, data=packed(folder), headers=headers, timeout=120)

    def ask(self, model: str = "support") -> str:
        """Return the id of the adapter that answers, which the fake model begins with."""
        _, reader = self.cluster.stream("hello", JobOptions(model=model), temperature=0.0)
        reader.to_end()
        return reader.text.partition(":")[0]


@pytest.fixture
def hosts(redis_server: RedisServer, real_redis: Redis, tmp_path: Path) -> Iterator[Hosts]:
    with (
        running_cluster(redis_server.url, tmp_path, **WORKERS) as cluster,
        running_api(tmp_path, redis_url=redis_server.url, data_dir=tmp_path / "api") as api,
    ):
        yield Hosts(cluster, api, tmp_path)


def test_what_one_host_publishes_every_host_serves(hosts: Hosts, tmp_path: Path) -> None:
    hosts.start_worker("one")
    published = hosts.publish(write_adapter(tmp_path / "source"))
    assert published.status_code == 201, published.text
    adapter_id = published.json()["id"]
    assert hosts.store("one").ids() == hosts.store("api").ids() == {adapter_id}
    assert hosts.ask() == adapter_id

    hosts.start_worker("two")
    for process in hosts.cluster.processes("one"):
        process.kill()
    assert hosts.ask() == adapter_id
    assert hosts.store("two").ids() == {adapter_id}
    assert [list((hosts.data(host) / "uploads").glob("*-*")) for host in ("api", "one")] == [[], []]


def test_an_adapter_that_is_nowhere_fails_only_its_own_requests(hosts: Hosts, tmp_path: Path) -> None:
    hosts.start_worker("one")
    lost, here = (hosts.publish(write_adapter(tmp_path / n, v), n).json()["id"] for n, v in (("lost", 1), ("here", 2)))
    for host in ("api", "one"):
        shutil.rmtree(hosts.store(host).folder(lost))
    job_id, reader = hosts.cluster.stream("hello", JobOptions(model="lost"))
    reader.to_end()
    job = hosts.cluster.store.get(job_id)
    assert (job.state, job.error and job.error.code) == (JobState.FAILED, "model_unavailable")
    assert job.error is not None
    assert "lost@1 cannot be used: Its files cannot be fetched from the API: " in job.error.message
    assert "are not here" in job.error.message
    assert hosts.ask("here") == here


def test_other_files_than_those_of_the_adapter_are_refused(hosts: Hosts, tmp_path: Path) -> None:
    hosts.start_worker("one")
    adapter_id = hosts.publish(write_adapter(tmp_path / "source")).json()["id"]
    for host in ("api", "one"):
        config = hosts.store(host).folder(adapter_id) / "adapter_config.json"
        config.write_text(config.read_text().replace("4", "8"))
    _, reader = hosts.cluster.stream("hello", JobOptions(model="support"))
    [*_, last] = reader.to_end()
    assert "not of adapter" in str(last.data)
    assert reader.text == ""


def test_a_folder_of_another_host_is_sent_to_the_api(hosts: Hosts, tmp_path: Path) -> None:
    write_adapter(tmp_path / "shelf" / "local")
    hosts.start_worker("one", SLM_ADAPTERS_DIR=str(tmp_path / "shelf"))
    [adapter_id] = wait_for("the adapter", lambda: hosts.store("api").ids())
    hosts.start_worker("two")
    for process in hosts.cluster.processes("one"):
        process.kill()
    assert hosts.ask("local") == adapter_id


def test_a_worker_with_a_wrong_key_says_so(hosts: Hosts, tmp_path: Path) -> None:
    hosts.start_worker("one", SLM_WORKER_KEY="slm_wrong")
    refused = hosts.publish(write_adapter(tmp_path / "source"))
    assert (refused.status_code, refused.json()["code"]) == (503, "model_unavailable")
    assert "SLM_WORKER_KEY" in refused.json()["error"]
