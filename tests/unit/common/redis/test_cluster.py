"""How commands are written for a cluster: every key in one slot, everything else as it is."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import pytest
from redis.crc import key_slot
from redis.exceptions import ConnectionError as RedisConnectionError

import common.redis
from common.redis import cluster
from common.redis.cluster import SlotOwner, in_slot

LUA = Path(common.redis.__file__).parent / "lua"


@pytest.mark.parametrize(
    ("command", "written"),
    [
        ("GET slm:aliases", "GET {slm}:aliases"),
        ("HSET slm:job:1 slm:field slm:value", "HSET {slm}:job:1 slm:field slm:value"),
        ("DEL slm:a slm:b", "DEL {slm}:a {slm}:b"),
        ("BRPOP slm slm.control 1", "BRPOP {slm}:slm {slm}:slm.control 1"),
        ("RENAME slm:a slm:b", "RENAME {slm}:a {slm}:b"),
        ("LLEN {slm}:slm", "LLEN {slm}:slm"),  # Celery's transport writes its names itself
        ("EVALSHA 12ab 0 slm:argument", "EVALSHA 12ab 1 {slm} slm:argument"),
        ("EVALSHA 12ab 2 slm:a slm:b slm:argument", "EVALSHA 12ab 2 {slm}:a {slm}:b slm:argument"),
        ("PUBLISH slm:control slm:text", "PUBLISH slm:control slm:text"),
        ("SCRIPT LOAD slm:text", "SCRIPT LOAD slm:text"),
        ("hget slm:a b", "hget {slm}:a b"),
        ("MULTI", "MULTI"),
    ],
    ids=str,
)
def test_keys_are_written_into_the_slot(command: str, written: str) -> None:
    assert " ".join(map(str, in_slot(command.split()))) == written


def test_all_names_have_the_hash_tag() -> None:
    assert {key_slot(str(in_slot(["GET", name])[1]).encode()) for name in ("slm:lanes", "slm", "_kombu.binding.x")} == {
        cluster.SLOT
    }


def test_scripts_build_their_keys_from_the_one_that_they_declare() -> None:
    for file in LUA.glob("*.lua"):
        literal = [line for line in file.read_text().splitlines() if re.search(r"'slm:", line)]
        assert [line for line in literal if "'PUBLISH', 'slm:" not in line] == [], file.name


class FakeNodes:
    """Nodes that are up, by host, each with the servers that it names for all slots: the master, then its replicas."""

    def __init__(self) -> None:
        self.up: dict[str, list[list[Any]]] = {}
        self.asked: list[str] = []

    def connect(self, host: str, **_: Any) -> FakeNode:
        self.asked.append(host)
        return FakeNode(self.up.get(host))


class FakeNode:
    def __init__(self, servers: list[list[Any]] | None) -> None:
        self._servers = servers

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def execute_command(self, _: str, command: str) -> Any:
        if self._servers is None:
            raise RedisConnectionError("refused")
        return b"cluster_state:ok" if command == "INFO" else [[0, 16383, *self._servers]]


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> FakeNodes:
    made = FakeNodes()
    monkeypatch.setattr(cluster, "Redis", made.connect)
    return made


def named(*hosts: str) -> list[list[Any]]:
    return [[host.encode(), 1, b"id", {}] for host in hosts]


def owner_of(*hosts: str) -> Callable[[], tuple[str, int]]:
    return SlotOwner([(host, 1) for host in hosts], {})


def test_nodes_that_the_cluster_no_longer_names_are_not_asked_again(nodes: FakeNodes) -> None:
    find = owner_of("given")
    for names in ("old-1", "old-2"), ("new-1", "new-2"):
        nodes.up = {"given": named(*names)}
        assert find() == (names[0], 1)
    nodes.up = {}
    nodes.asked.clear()
    with pytest.raises(RedisConnectionError, match="no node of the cluster has the keys"):
        find()
    assert nodes.asked == ["given", "new-1", "new-2"]


def test_the_given_nodes_are_asked_when_all_that_they_named_are_gone(nodes: FakeNodes) -> None:
    nodes.up = {"first": named("a", "b")}
    find = owner_of("first", "second")
    assert find() == ("a", 1)
    nodes.up = {"second": named("c")}
    assert find() == ("c", 1)


@pytest.mark.parametrize(
    ("server", "place"),
    [
        ([b"10.0.0.1", 1, b"id", {b"hostname": b"db"}], "10.0.0.1"),
        ([b"10.0.0.1", 1, b"id"], "10.0.0.1"),
        ([b"?", 1, b"id", {b"ip": b"10.0.0.1"}], "10.0.0.1"),
        ([None, 1, b"id", {b"ip": b"10.0.0.1"}], "asked"),
        ([b"", 1, b"id", []], "asked"),
        ([b"?", 1, b"id", {}], "asked"),
    ],
    ids=["address", "redis-6", "host-name-not-announced", "unknown-endpoint", "own-address-unknown", "nothing-known"],
)
def test_the_host_of_the_master(nodes: FakeNodes, server: list[Any], place: str) -> None:
    nodes.up = {"asked": [server]}
    assert owner_of("asked")() == (place, 1)
