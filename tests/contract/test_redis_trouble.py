"""Failures of Redis are counted below the retries that hide them."""

from __future__ import annotations

from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from common.redis.client import connect
from common.redis.failures import RedisTrouble
from tests.redis_server import RedisServer, running_server


class Counts:
    """Counts failures and returns."""

    def __init__(self) -> None:
        self.errors = self.reconnects = 0

    def error(self) -> None:
        self.errors += 1

    def reconnect(self) -> None:
        self.reconnects += 1


def watched(server: RedisServer, counts: Counts, *, retries: int) -> Redis:
    return connect(server.url, retries=retries, trouble=RedisTrouble(counts.error, counts.reconnect))


def test_failed_attempts_and_the_return_of_redis_are_counted(tmp_path: Path) -> None:
    counts = Counts()
    with running_server(tmp_path) as server, watched(server, counts, retries=1) as client:
        client.set("a", 1)
        assert (counts.errors, counts.reconnects) == (0, 0)
        server.kill()
        with pytest.raises(RedisConnectionError):
            client.get("a")
        assert counts.errors >= 2, "the first attempt and its retry"
        assert counts.reconnects == 0
        server.start()
        client.ping()
        client.ping()
        assert counts.reconnects == 1


def test_all_connections_of_a_client_share_their_counters(tmp_path: Path) -> None:
    counts = Counts()
    with running_server(tmp_path) as server, watched(server, counts, retries=0) as client:
        pools = [client.connection_pool.get_connection() for _ in range(2)]
        server.kill()
        for connection in pools:
            with pytest.raises(RedisConnectionError):
                connection.retry.call_with_retry(lambda one=connection: _ask(one), lambda _error: None)
        assert counts.errors == 2


def _ask(connection: object) -> object:
    connection.send_command("PING", check_health=False)
    return connection.read_response()
