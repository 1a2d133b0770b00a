"""Runs a Redis Cluster with three masters, and replicas of the one that has our keys, on free loopback ports."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from common.redis.cluster import ROOT, SLOT
from tests.free_port import free_port
from tests.processes import wait_for
from tests.redis_server import RedisServer, running_server

MASTERS = 3  # the least that can vote for a successor
SLOTS = 16384
NODE_TIMEOUT_MS = 1000
ANSWER_S = 30.0
PASSWORD = "secret"
OPTIONS = (
    *("--cluster-enabled", "yes", "--cluster-node-timeout", str(NODE_TIMEOUT_MS)),
    *("--cluster-allow-replica-migration", "no"),  # all replicas stay with our keys
    *("--requirepass", PASSWORD, "--masterauth", PASSWORD, "--repl-diskless-sync-delay", "0"),
)


class PlainNames(Redis):
    """A client of the cluster that lists keys by their usual names. Our own code lists none."""

    def scan_iter(self, match: str = "*", **options: Any) -> Iterator[str]:
        """Yield the keys that match."""
        for key in super().scan_iter(f"{ROOT}{match.removeprefix('slm')}", **options):
            yield key.replace(ROOT, "slm", 1)


class ClusterSet:
    """The servers of a cluster. `servers` are those that have our keys: at first the first of them."""

    def __init__(self, servers: Sequence[RedisServer], others: Sequence[RedisServer]) -> None:
        self.servers = list(servers)
        self.others = list(others)

    @property
    def url(self) -> str:
        """The URL that clients connect to; it names the nodes without our keys first."""
        places = ",".join(f"127.0.0.1:{node.port}" for node in [*self.others, *self.servers])
        return f"redis+cluster://:{PASSWORD}@{places}"

    @property
    def nodes(self) -> list[RedisServer]:
        """All servers."""
        return [*self.servers, *self.others]

    @property
    def primary(self) -> RedisServer:
        """The server that has our slot, as another master says."""
        port = self._ours()[2][1]
        return next(server for server in self.servers if server.port == port)

    def wait_until_complete(self) -> None:
        """Wait until the nodes know each other, and our slot has its replicas."""
        wait_for("the cluster to be complete", lambda: all(self._is_complete(node) for node in self.nodes))

    def wait_for_successor(self, old: RedisServer) -> None:
        wait_for("another server to have the slot", lambda: self.primary is not old)

    def ask(self, node: RedisServer, *command: str) -> Any:
        """Send a command to one node, once: some may not be repeated, however long a busy machine takes."""
        options: dict[str, Any] = {"socket_timeout": ANSWER_S, "retry": Retry(NoBackoff(), 0)}
        with Redis.from_url(node.url, decode_responses=True, **options) as client:
            return client.execute_command(*command)

    def _ours(self) -> Sequence[Any]:
        ranges = self.ask(self.others[0], "CLUSTER", "SLOTS")
        return next(one for one in ranges if one[0] <= SLOT <= one[1])

    def _is_complete(self, node: RedisServer) -> bool:
        try:
            info = self.ask(node, "CLUSTER", "INFO")
            known = len(self.ask(node, "CLUSTER", "SHARDS")) == MASTERS
            linked = str(self.ask(self.primary, "INFO", "replication")).count("'state': 'online'")
        except (RedisError, StopIteration):
            return False
        return "cluster_state:ok" in info and known and linked == len(self.servers) - 1


@contextmanager
def running_redis_cluster(folder: Path, replicas: int = 0, options: Sequence[str] = ()) -> Iterator[ClusterSet]:
    """Start a cluster, and kill it at the end. Every server has the password; `options` are the servers' own."""
    with ExitStack() as stack:

        def started(name: str) -> RedisServer:
            place = folder / name
            place.mkdir()
            given = (*OPTIONS, "--cluster-port", str(free_port()), *options)
            return stack.enter_context(running_server(place, f":{PASSWORD}", given))

        made = ClusterSet(
            [started(f"ours{number}") for number in range(replicas + 1)],
            [started(f"other{number}") for number in range(MASTERS - 1)],
        )
        _join(made)
        made.wait_until_complete()
        yield made


def _join(made: ClusterSet) -> None:
    """Make the servers meet, share the slots among the masters, and make the rest replicas of ours."""
    first, *replicas = made.servers
    for epoch, node in enumerate(made.nodes, start=1):
        made.ask(node, "CLUSTER", "SET-CONFIG-EPOCH", str(epoch))
    bus = made.ask(first, "CONFIG", "GET", "cluster-port")["cluster-port"]
    for node in made.nodes[1:]:
        made.ask(node, "CLUSTER", "MEET", "127.0.0.1", str(first.port), bus)
    masters = [first, *made.others]
    share = SLOTS // MASTERS
    starts = [number * share for number in range(MASTERS)] + [SLOTS]
    ranges = [(low, high - 1) for low, high in pairwise(starts)]
    ranges.sort(key=lambda one: not one[0] <= SLOT <= one[1])  # the one with our slot first
    for node, (low, high) in zip(masters, ranges, strict=True):
        made.ask(node, "CLUSTER", "ADDSLOTSRANGE", str(low), str(high))
    name = made.ask(first, "CLUSTER", "MYID")
    for replica in replicas:
        wait_for("the replica to know the master", lambda node=replica: name in made.ask(node, "CLUSTER", "NODES"))
        made.ask(replica, "CLUSTER", "REPLICATE", name)
