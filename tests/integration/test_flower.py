"""Flower with the login from docker-compose.yml, and without one."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from common.redis.address import RedisAddress
from common.settings import Settings
from deploy.data_folder import BROKER_URL, claim_data_dir
from deploy.processes import stack
from deploy.redis import own_redis
from tests.free_port import free_port
from tests.processes import wait_for
from tests.redis_server import RedisServer


@contextmanager
def flower(redis_url: str, folder: Path, basic_auth: str) -> Iterator[str]:
    """Start Flower; yields its URL."""
    port = free_port()
    command = [*stack.module(*stack.FLOWER), f"--port={port}"]
    broker_url = RedisAddress.parse(redis_url).broker_url
    env = os.environ | {"FLOWER_BASIC_AUTH": basic_auth, "CELERY_BROKER_URL": broker_url}
    with (folder / "flower.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_for("Flower", lambda: answers(url))
        yield url
    finally:
        process.kill()
        process.wait()


def answers(url: str) -> bool:
    try:
        requests.get(url, timeout=60)
    except requests.ConnectionError:
        return False
    return True


def status(url: str, login: tuple[str, str] | None) -> int:
    return requests.get(f"{url}/workers", auth=login, timeout=60).status_code


def test_it_reads_the_embedded_redis_by_the_address_in_the_data_folder(tmp_path: Path) -> None:
    claim = claim_data_dir(tmp_path / "data")
    server = own_redis.embedded(Settings(data_dir=tmp_path / "data"))
    with own_redis.running(server, claim.inherited):
        claim.announce(server.url)
        with flower(server.url, tmp_path, "ops:good") as url:
            assert requests.get(f"{url}/broker", auth=("ops", "good"), timeout=60).ok
    claim.release()
    log = (tmp_path / "flower.log").read_text()
    assert (tmp_path / "data" / BROKER_URL).read_text() == RedisAddress.parse(server.url).broker_url
    assert "Connected to redis+socket://" in log
    assert "Unable to get queues" not in log


def test_only_the_login_is_accepted(redis_server: RedisServer, tmp_path: Path) -> None:
    with flower(redis_server.url, tmp_path, "ops:good") as url:
        assert status(url, ("ops", "good")) == 200
        assert [status(url, login) for login in (None, ("ops", "bad"), ("", ""))] == [401, 401, 401]


def test_without_a_login_nobody_is_accepted(redis_server: RedisServer, tmp_path: Path) -> None:
    with flower(redis_server.url, tmp_path, "") as url:
        assert [status(url, login) for login in (None, ("", ""), ("ops", ""))] == [401, 401, 401]
