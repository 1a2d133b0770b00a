"""`slm doctor`, on a real Redis."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
from redis import Redis

from common.owners.api_keys import ApiKeyStore, Role
from slm.app import run
from tests.cluster_set import ClusterSet
from tests.free_port import free_port
from tests.processes import wait_for
from tests.redis_server import RedisServer, running_server

Levels = dict[str, str]


class Doctor:
    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *, status: int = 0) -> Levels:
        assert run(["doctor", "--json"]) == status
        return {one["check"]: one["level"] for one in json.loads(self._capsys.readouterr().out)["findings"]}


@pytest.fixture
def doctor(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Doctor:
    monkeypatch.setenv("SLM_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("SLM_PORT", str(free_port()))
    return Doctor(capsys)


@pytest.fixture
def redis(real_redis: Redis, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Redis:
    monkeypatch.setenv("SLM_REDIS_URL", redis_server.url)
    return real_redis


def test_a_machine_without_a_server_is_ready_for_one(doctor: Doctor, tmp_path: Path) -> None:
    found = doctor()
    assert "problem" not in found.values()
    assert found["Redis"] == found["port"] == "ok"
    assert not (tmp_path / "data").exists(), "nothing is changed"


def test_a_redis_that_evicts_jobs_is_a_problem(doctor: Doctor, redis: Redis) -> None:
    assert doctor()["Redis policy"] == "ok"
    redis.config_set("maxmemory-policy", "allkeys-lru")
    try:
        assert doctor(status=1)["Redis policy"] == "problem"
    finally:
        redis.config_set("maxmemory-policy", "noeviction")


def test_a_full_redis_and_one_without_a_limit_are_worth_a_change(doctor: Doctor, redis: Redis) -> None:
    before = str(redis.config_get("maxmemory")["maxmemory"])
    try:
        for limit, level in ((0, "warning"), (int(redis.info()["used_memory"] * 1.1), "warning"), (2**33, "ok")):
            redis.config_set("maxmemory", limit)
            assert doctor()["Redis memory"] == level, limit
    finally:
        redis.config_set("maxmemory", before)


def test_a_redis_that_forgets_is_worth_a_change(doctor: Doctor, redis: Redis) -> None:
    before = str(redis.config_get("appendonly")["appendonly"])
    try:
        redis.config_set("appendonly", "no")
        assert doctor()["Redis on disk"] == "warning"
    finally:
        redis.config_set("appendonly", before)


def test_a_redis_without_the_replicas_that_each_job_waits_for_is_a_problem(
    doctor: Doctor, redis: Redis, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert "Redis replicas" not in doctor()
    redis.config_set("repl-diskless-sync-delay", 0)
    monkeypatch.setenv("SLM_REDIS_REPLICAS", "1")
    assert doctor(status=1)["Redis replicas"] == "problem"
    options = ("--replicaof", "127.0.0.1", str(redis_server.port))
    with running_server(tmp_path, options=options):
        wait_for("the replica", lambda: "slave0" in redis.info("replication"))
        wait_for("its data", lambda: redis.info("replication")["slave0"]["state"] == "online")
        assert doctor()["Redis replicas"] == "ok"
        monkeypatch.setenv("SLM_REDIS_REPLICAS", "0")
        assert doctor()["Redis replicas"] == "warning"


@pytest.mark.parametrize(
    ("commands", "keys", "channels", "check"),
    [
        (["+@all", "-@admin"], ["slm*"], ["slm*"], None),
        (["+@all", "-eval"], ["slm*"], ["slm*"], "Redis writes"),
        (["+@all"], ["other*"], ["slm*"], "Redis writes"),
        (["+@all"], ["slm*"], [], "Redis writes"),
        (["+@read", "+@connection"], ["*"], ["*"], "Redis"),
    ],
    ids=["enough", "scripts", "keys", "channels", "commands"],
)
def test_a_user_of_redis_without_the_rights_is_a_problem(
    doctor: Doctor,
    redis: Redis,
    redis_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
    commands: list[str],
    keys: list[str],
    channels: list[str],
    check: str | None,
) -> None:
    rights = [one for one in commands if "@" in one], [one for one in commands if "@" not in one]
    redis.acl_setuser(
        "ann", enabled=True, passwords="+secret", categories=rights[0], commands=rights[1], keys=keys, channels=channels
    )
    monkeypatch.setenv("SLM_REDIS_URL", redis_server.url.replace("//", "//ann:secret@"))
    try:
        found = doctor(status=0 if check is None else 1)
    finally:
        redis.acl_deluser("ann")
    assert [name for name, level in found.items() if level == "problem"] == [check] * (check is not None)


def test_clocks_that_differ_are_worth_a_change(doctor: Doctor, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor()["clock"] == "ok"
    monkeypatch.setattr(Redis, "time", lambda _: (1_600_000_000, 0))
    assert doctor()["clock"] == "warning"


def test_a_node_of_a_cluster_is_a_problem_without_the_others(
    doctor: Doctor, redis_cluster: ClusterSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLM_REDIS_URL", redis_cluster.primary.url)
    assert doctor(status=1)["Redis role"] == "problem"
    monkeypatch.setenv("SLM_REDIS_URL", redis_cluster.url)
    found = doctor()
    assert (found["Redis writes"], found["Redis cluster"]) == ("ok", "warning")


def test_a_broker_that_does_not_answer_is_a_problem(
    doctor: Doctor, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLM_BROKER_URL", f"amqp://ann:secret@127.0.0.1:{free_port()}//")
    assert doctor(status=1)["broker"] == "problem"


def test_the_broker_is_checked_before_the_server_has_started_its_redis(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLM_BROKER_URL", f"amqp://ann:secret@127.0.0.1:{free_port()}//")
    assert doctor(status=1)["broker"] == "problem"


def test_an_open_server_is_a_problem_until_there_are_keys(
    doctor: Doctor, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLM_PUBLISHED_HOST", "192.0.2.1")
    assert doctor(status=1)["access"] == "problem"
    ApiKeyStore(redis).create("me", Role.ADMIN)
    assert doctor()["access"] == "ok"
    monkeypatch.setenv("SLM_INSECURE", "true")
    assert doctor()["access"] == "warning"


@pytest.mark.parametrize(
    ("variable", "value", "check"),
    [
        ("SLM_REDIS_URL", "redis://127.0.0.1:1", "Redis"),
        ("SLM_BASE_MODEL", "/nowhere/model", "model"),
        ("SLM_MAX_QUEUE", "none", "settings"),
        ("SLM_DATA_DIR", __file__, "data folder"),
        ("SLM_HOST", "192.0.2.77", "port"),
    ],
    ids=["redis", "model", "settings", "folder", "host"],
)
def test_what_keeps_a_server_from_starting_is_a_problem(
    doctor: Doctor, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, check: str
) -> None:
    monkeypatch.setenv(variable, value)
    found = doctor(status=1)
    assert [name for name, level in found.items() if level == "problem"] == [check]


def test_a_port_that_is_taken_may_be_this_server(doctor: Doctor, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setenv("SLM_PORT", str(taken.getsockname()[1]))
        assert doctor()["port"] == "warning"


def test_people_read_lines_with_advice(capsys: pytest.CaptureFixture[str], doctor: Doctor) -> None:
    assert doctor()
    assert run(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:2] == ["ok", "Python"]
