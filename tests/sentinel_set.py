"""Runs a primary with replicas, and the Sentinels that watch them, on free loopback ports."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from deploy.redis.redis_server import find_server
from tests.free_port import free_port
from tests.processes import wait_for
from tests.redis_server import RedisServer, running_server

MASTER = "jobs"
DOWN_AFTER_MS = 1000


class SentinelSet:
    """Servers of which one is the primary, watched by Sentinels that replace it after `DOWN_AFTER_MS`."""

    def __init__(self, servers: Sequence[RedisServer], sentinel_ports: Sequence[int], password: str) -> None:
        self.servers = list(servers)
        self.sentinel_ports = list(sentinel_ports)
        self._password = password

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.sentinel_ports)
        return f"sentinel://:{self._password}@{hosts}/0?master={MASTER}"

    @property
    def primary(self) -> RedisServer:
        """The server that the Sentinels name."""
        port = self._state()["port"]
        return next(server for server in self.servers if server.port == port)

    def wait_until_complete(self) -> None:
        """Wait until the Sentinels know the replicas and each other."""
        num_others = len(self.sentinel_ports) - 1

        def is_complete() -> bool:
            state = self._state()
            known = state["num-slaves"], state["num-other-sentinels"]
            return known == (len(self.servers) - 1, num_others) and self._are_synchronised()

        wait_for("the Sentinels to know all servers", is_complete)

    def wait_for_successor(self, old: RedisServer) -> None:
        wait_for("the Sentinels to name another primary", lambda: self.primary is not old)

    def _state(self) -> dict[str, int]:
        with Redis(port=self.sentinel_ports[0], decode_responses=True) as sentinel:
            state: dict[str, int] = sentinel.sentinel_master(MASTER)
            return state

    def _are_synchronised(self) -> bool:
        with Redis.from_url(self.primary.url) as primary:
            info = primary.info("replication")
        replicas = [info.get(f"slave{number}", {}) for number in range(len(self.servers) - 1)]
        return all(replica.get("state") == "online" for replica in replicas)


@contextmanager
def running_sentinels(
    folder: Path, servers: int = 2, sentinels: int = 1, password: str = "secret", options: Sequence[str] = ()
) -> Iterator[SentinelSet]:
    """Start them, and kill them at the end. Every server has the password; `options` are the servers' own."""
    login = ("--requirepass", password, "--masterauth", password, "--repl-diskless-sync-delay", "0", *options)
    with ExitStack() as stack:
        running: list[RedisServer] = []
        for number in range(servers):
            place = folder / f"server{number}"
            place.mkdir()
            follows = ("--replicaof", "127.0.0.1", str(running[0].port)) if running else ()
            running.append(stack.enter_context(running_server(place, f":{password}", [*login, *follows])))
        quorum = sentinels // 2 + 1
        ports = [
            stack.enter_context(_running_sentinel(folder / f"sentinel{number}.conf", running[0].port, quorum, password))
            for number in range(sentinels)
        ]
        made = SentinelSet(running, ports, password)
        made.wait_until_complete()
        yield made


@contextmanager
def _running_sentinel(config: Path, primary: int, quorum: int, password: str) -> Iterator[int]:
    port = free_port()
    config.write_text(
        f"port {port}\nbind 127.0.0.1\nprotected-mode no\n"
        f"sentinel monitor {MASTER} 127.0.0.1 {primary} {quorum}\nsentinel auth-pass {MASTER} {password}\n"
        f"sentinel down-after-milliseconds {MASTER} {DOWN_AFTER_MS}\nsentinel failover-timeout {MASTER} 5000\n"
    )
    with config.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen([str(find_server()), str(config), "--sentinel"], stdout=log, stderr=log)
    try:
        wait_for("the Sentinel", lambda: _answers(port))
        yield port
    finally:
        process.kill()
        process.wait()


def _answers(port: int) -> bool:
    try:
        with Redis(port=port) as sentinel:
            return bool(sentinel.ping())
    except RedisError:
        return False
