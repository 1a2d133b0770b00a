"""Fixtures for the whole test suite."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from redis import Redis

from common.redis.client import connect
from tests import early_failures
from tests.cluster_set import ClusterSet, PlainNames, running_redis_cluster
from tests.fake_redis import fake_redis
from tests.redis_server import RedisServer, running_server

HERE = Path(__file__).parent

if not Path("/dev/nvidiactl").exists():
    # Without a GPU, Triton's interpreter runs the kernels. It must be selected before anything imports Triton, which
    # torch and transformers may do at any time.
    os.environ["TRITON_INTERPRET"] = "1"

# jsonschema imports it for 1.5 s, to check IRIs, which no test needs.
sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]


def _ignored(_number: int, _frame: object) -> None:
    """Do nothing, as SIG_IGN, but the programs that tests start do not inherit it."""


# Shells start background programs with SIGINT ignored, and nohup with SIGHUP; programs that tests start inherit this.
for number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, _ignored)


def pytest_configure(config: pytest.Config) -> None:
    """Show failures at once."""
    early_failures.register(config)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test with its layer: the folder under `tests/` that it is in. pyproject.toml describes them.

    A test that takes minutes comes first, so that it does not run alone at the end.
    """
    for item in items:
        item.add_marker(item.path.relative_to(HERE).parts[0])
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for no garbage while everything is imported, and later never in what was: these are millions of objects."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the shell's SLM_* variables, so that tests see the default settings."""
    for name in [name for name in os.environ if name.startswith("SLM_")]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A real server for the whole run; `real_redis` empties it for each test."""
    with running_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def real_redis(redis_server: RedisServer) -> Iterator[Redis]:
    """An empty real Redis; it is emptied again, because API keys would lock later tests out."""
    client = connect(redis_server.url)
    client.flushall()
    yield client
    client.flushall()
    client.close()


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterSet]:
    """A real cluster for the whole run; `cluster_redis` empties it for each test."""
    with running_redis_cluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def cluster_redis(redis_cluster: ClusterSet) -> Iterator[Redis]:
    """An empty Redis Cluster."""
    client = PlainNames(connection_pool=connect(redis_cluster.url).connection_pool)
    client.flushall()
    yield client
    client.close()


@pytest.fixture(params=["fake", "real", "cluster"])
def redis(request: pytest.FixtureRequest) -> Redis:
    """An empty Redis: each test runs with the emulation, with a real server, and with a cluster."""
    if request.param != "fake":
        client: Redis = request.getfixturevalue(f"{request.param}_redis")
        return client
    return fake_redis()


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """The test's own data folder."""
    return tmp_path / "data"
