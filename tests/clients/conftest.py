"""One API process for all the clients, and a worker that plays a script."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Protocol

import pytest
from redis import Redis

from tests.clients.mortal_api import MortalApi, mortal_api
from tests.free_port import free_port
from tests.redis_server import RedisServer
from tests.scripted_worker import Script, ScriptedWorker


@pytest.fixture(scope="package")
def lasting_api(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MortalApi]:
    with mortal_api(tmp_path_factory.mktemp("api"), redis_url=redis_server.url) as api:
        yield api


@pytest.fixture
def url(lasting_api: MortalApi, real_redis: Redis) -> str:
    """The address of an API with an empty Redis."""
    return lasting_api.url


@pytest.fixture
def dying_api(lasting_api: MortalApi, real_redis: Redis) -> Iterator[MortalApi]:
    """The same, but it can be killed and restarted."""
    yield lasting_api
    lasting_api.wait_until_up()


@pytest.fixture
def unused_url() -> str:
    """An address where nobody listens."""
    return f"http://127.0.0.1:{free_port()}"


class Worker(Protocol):
    def __call__(self, script: Script) -> AbstractContextManager[ScriptedWorker]: ...


@pytest.fixture
def worker(real_redis: Redis) -> Worker:
    """Starts a worker with a script."""
    return lambda script: ScriptedWorker(real_redis, script)
