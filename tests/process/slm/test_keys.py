"""The command that creates API keys, with its own data folder."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis

from common.errors import Unauthorized
from common.fleet import Fleet, WorkerReport
from common.jobs.job import JobKind, JobState
from common.jobs.store import JobStore
from common.owners.api_keys import ApiKeyStore, digest
from common.owners.audit_log import AuditLog, Change
from common.owners.batches import BatchStatus, BatchStore
from common.owners.files import FileStore
from common.redis.client import connect
from common.settings import Settings
from deploy.data_folder import claim_data_dir
from deploy.redis import own_redis
from slm.app import run
from tests.redis_server import RedisServer, running_server

KEY = re.compile(r"slm_[A-Za-z0-9_-]{43}")


class Command:
    """The command, on one Redis."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str) -> str:
        assert run(["keys", *arguments]) == 0, self._capsys.readouterr().err
        return self._capsys.readouterr().out

    def refused(self, *arguments: str) -> str:
        assert run(["keys", *arguments]) == 1
        out, err = self._capsys.readouterr()
        assert out == ""
        return err


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server that no API uses, which would process batches; not even one that another test has just killed."""
    with running_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, redis_server: RedisServer, real_redis: Redis
) -> Command:
    monkeypatch.setenv("SLM_REDIS_URL", redis_server.url)
    return Command(capsys)


def test_a_key_is_shown_once_and_works(command: Command, redis_server: RedisServer) -> None:
    out = command("create", "--name", "bob", "--requests-per-minute", "60", "--tokens-per-day", "1000")
    (secret,) = KEY.findall(out)
    (kept,) = ApiKeyStore(connect(redis_server.url)).all()
    assert kept.digest == digest(secret)
    listed = command("list")
    assert listed == f"{'bob':<20} {'user':<7} 60 requests per minute, 1000 tokens per day\n"


def test_a_key_is_changed_and_revoked(command: Command) -> None:
    command("create", "--name", "bob", "--role", "admin", "--concurrent-jobs", "4", "--tokens-per-day", "9")
    changed = command("change", "--name", "bob", "--role", "user", "--tokens-per-day", "none")
    assert changed.split() == ["bob", "user", "4", "concurrent", "jobs"]
    command("revoke", "--name", "bob")
    assert command("list") == "There are no keys.\n"


def test_a_revoked_keys_jobs_and_batches_are_ended(command: Command, redis_server: RedisServer) -> None:
    redis = connect(redis_server.url)
    store, batches = JobStore(redis, lambda _: None, job_ttl_s=60), BatchStore(redis, ttl_s=60)
    Fleet(redis).beat(WorkerReport("w", "h", 1, slots=1), ttl_s=60)
    for owner in ("bob", "eve"):
        command("create", "--name", owner)
        for number in range(3):
            store.submit(f"{owner}{number}", JobKind.GENERATE, {}, owner=owner, max_queue=9, needs_key=True)
        file = FileStore(redis, ttl_s=60).put(owner, "a.jsonl", "batch", ["{}"])
        batches.enter(owner, endpoint="/v1/completions", input_file_id=file.id, metadata={})
    claim = store.claim("bob0", "w", lease_s=60)
    assert claim is not None
    assert "3 jobs, 1 batches" in command("revoke", "--name", "bob")
    assert store.renew([("bob0", claim.attempt)], lease_s=60)[1] == {"bob0"}
    assert {store.get(name).state for name in ("bob1", "bob2")} == {JobState.CANCELLED}
    assert {store.get(name).state for name in ("eve0", "eve1", "eve2")} == {JobState.QUEUED}
    assert {one.owner: one.status for one in map(batches.find, batches.open())} == {
        "bob": BatchStatus.CANCELLING,
        "eve": BatchStatus.VALIDATING,
    }
    with pytest.raises(Unauthorized):
        store.submit("bob3", JobKind.GENERATE, {}, owner="bob", max_queue=9, needs_key=True)


def test_a_key_is_revoked_while_redis_is_full(
    command: Command, redis_server: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    redis = connect(redis_server.url)
    command("create", "--name", "bob", "--files", "7")
    (entry,) = AuditLog(redis).newest(9).items
    assert entry.change == Change("command line", "create_key", "bob", "role: user, files: 7")
    redis.config_set("maxmemory", 1)
    try:
        assert run(["keys", "revoke", "--name", "bob"]) == 0
    finally:
        redis.config_set("maxmemory", 0)
    out, err = capsys.readouterr()
    assert "is rejected" in out
    assert "audit log" in err
    assert ApiKeyStore(redis).all() == []


def test_an_interrupted_revocation_is_repeated(command: Command, redis_server: RedisServer) -> None:
    redis = connect(redis_server.url)
    store = JobStore(redis, lambda _: None, job_ttl_s=60)
    Fleet(redis).beat(WorkerReport("w", "h", 1, slots=1), ttl_s=60)
    command("create", "--name", "bob")
    store.submit("a", JobKind.GENERATE, {}, owner="bob", max_queue=9)
    ApiKeyStore(redis).revoke("bob")
    assert "1 jobs" in command("revoke", "--name", "bob")
    assert store.get("a").state is JobState.CANCELLED
    assert "no key named 'bob'" in command.refused("revoke", "--name", "bob")


def test_a_command_that_fails_prints_one_line(command: Command) -> None:
    command("create", "--name", "bob")
    for refused in (
        command.refused("create", "--name", "bob"),
        command.refused("create", "--name", "a:b"),
        command.refused("revoke", "--name", "eve"),
        command.refused("change", "--name", "eve", "--role", "admin"),
    ):
        assert refused.startswith("slm: cannot ")
        assert refused.count("\n") == 1


@pytest.mark.parametrize("number", ["0", "-1", "many", "1.5", ""])
def test_a_limit_that_is_not_a_number_is_refused(command: Command, number: str) -> None:
    assert run(["keys", "create", "--name", "bob", "--concurrent-jobs", number]) == 2
    assert command("list") == "There are no keys.\n"


@pytest.fixture
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SLM_DATA_DIR", str(tmp_path))
    return tmp_path


def test_keys_can_be_made_before_the_server_starts(own_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = Command(capsys)
    command("create", "--name", "bob")
    assert "bob" in command("list")  # another Redis process, the same data
    claim_data_dir(own_folder).release()  # nothing still runs


def test_a_running_servers_own_redis_is_used(own_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    claim = claim_data_dir(own_folder)
    server = own_redis.embedded(Settings(data_dir=own_folder))
    with own_redis.running(server, claim.inherited) as redis:
        claim.announce(server.url)
        Command(capsys)("create", "--name", "bob")
        assert [key.name for key in ApiKeyStore(redis).all()] == ["bob"]
    claim.release()


def test_an_unusable_data_folder_gives_one_line(
    own_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (own_folder / "file").touch()
    monkeypatch.setenv("SLM_DATA_DIR", str(own_folder / "file" / "data"))
    assert "SLM_DATA_DIR" in Command(capsys).refused("list")
