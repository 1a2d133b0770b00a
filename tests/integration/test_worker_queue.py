"""A worker survives rubbish in its queue and a Redis that refuses commands, and continues."""

from __future__ import annotations

import json
import re
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import RedisError

from common.queue import QUEUE
from common.redis import keys
from tests.processes import Cluster, Process, running_cluster, wait_for
from tests.redis_server import RedisServer, running_server

PIDBOX = "/0.celery.pidbox"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that a test may break."""
    (tmp_path / "redis").mkdir()
    with running_server(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def cluster(server: RedisServer, tmp_path: Path) -> Iterator[Cluster]:
    with running_cluster(server.url, tmp_path, SLM_LEASE_S="2", SLM_DRAIN_S="1") as cluster:
        yield cluster


def start_worker(cluster: Cluster, **env: str) -> Process:
    worker = cluster.start_worker("a", **env)
    cluster.wait_until_taking_jobs("a")
    return worker


def assert_serves(cluster: Cluster, worker: Process) -> None:
    """Check that the same process answers."""
    _, reader = cluster.stream("still here")
    reader.to_end()
    assert reader.text == "still here"
    assert worker.is_running()


def message(body: object = (["no-such-job"], {}, {}), **changes: Any) -> bytes:
    """A message as Celery writes it, with some of its parts changed."""
    whole: dict[str, Any] = {
        "body": b64encode(json.dumps(body).encode()).decode(),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"lang": "py", "task": "slm.stream", "id": "x", "root_id": "x", "retries": 0},
        "properties": {"delivery_info": {}, "body_encoding": "base64", "delivery_tag": "t"},
    }
    return json.dumps(whole | changes).encode()


def with_headers(**changes: Any) -> bytes:
    headers = {"lang": "py", "task": "slm.stream", "id": "x", "root_id": "x", "retries": 0}
    return message(headers=headers | changes)


RUBBISH = {
    "no text": b"\xff\xfe\x00",
    "nothing": b"",
    "no JSON": b"{",
    "null": b"null",
    "a list": b"[]",
    "a number": b"7",
    "an empty object": b"{}",
    "nested too deep": b"[" * 200_000,
    "a body that is not base64": message(body="&&&"),
    "a body that is a number": message().replace(b'"body": "', b'"body": 7, "was": "'),
    "a body that is not JSON": json.dumps(json.loads(message()) | {"body": b64encode(b"{").decode()}).encode(),
    "no arguments": message(body=[]),
    "a null for arguments": message(body=None),
    "too many arguments": message(body=[["a", "b"], {"c": 1}, {}]),
    "an argument that is an object": message(body=[[{"a": 1}], {}, {}]),
    "the id of a log": message(body=[["x:log"], {}, {}]),
    "pickle": message(**{"content-type": "application/x-python-serialize"}),
    "an unknown content type": message(**{"content-type": "image/png"}),
    "an unknown encoding": message(**{"content-encoding": "klingon"}),
    "headers that are a list": message(headers=[]),
    "no headers": message(headers=None),
    "empty headers": message(headers={}),
    "properties that are a list": message(properties=[]),
    "an unknown task": with_headers(task="os.system"),
    "an unknown task without an id": message(headers={"task": "os.system"}),
    "an unknown task in a body that cannot be read": message(headers={"task": "os.system"}, body="&&&"),
    "a task that is a list": with_headers(task=[]),
    "no id": message(headers={"task": "slm.stream"}),
    "an id that is an object": with_headers(id={}),
    "a time that is none": with_headers(eta="soon"),
    "an expiry that is none": with_headers(expires="late"),
    "limits that are none": with_headers(timelimit="never"),
    "an unknown compression": with_headers(compression="zip-zap"),
    "retries that are none": with_headers(retries="many"),
    "twenty megabytes": b'"' + b"x" * 20_000_000 + b'"',
}


def test_an_unreadable_message_is_dropped_and_the_worker_continues(cluster: Cluster) -> None:
    worker = start_worker(cluster)
    for name, raw in RUBBISH.items():
        cluster.redis.lpush(QUEUE, raw)
        wait_for(f"the worker to take {name}", lambda: not cluster.redis.llen(QUEUE))
        assert worker.is_running(), name
        assert_serves(cluster, worker)


def test_rubbish_on_the_channels_of_remote_control_is_dropped(cluster: Cluster) -> None:
    worker = start_worker(cluster)
    for channel in (PIDBOX, keys.CONTROL_CHANNEL):
        for raw in RUBBISH.values():
            cluster.redis.publish(channel, raw)
    assert_serves(cluster, worker)
    job_id, reader = cluster.stream("endless", max_new_tokens=1800)
    wait_for("the first tokens", lambda: reader.text)
    cluster.store.cancel(job_id)
    assert reader.to_end()[-1].data["state"] == "cancelled"
    assert worker.is_running()


class Refusal:
    """A state in which Redis refuses commands, until the end of a `with` block.

    Args:
        begin, end: commands of an operator.
    """

    def __init__(self, begin: Callable[[Redis], object], end: Callable[[Redis], object]) -> None:
        self._begin = begin
        self._end = end

    @contextmanager
    def on(self, url: str) -> Iterator[None]:
        with Redis.from_url(url) as operator:
            operator.ping()
            self._begin(operator)
            try:
                yield
            finally:
                self._end(operator)


def fail_to_save(redis: Redis) -> None:
    """The disk fails: there is a folder instead of the file."""
    (Path(redis.config_get("dir")["dir"]) / "dump.rdb").mkdir()
    redis.config_set("stop-writes-on-bgsave-error", "yes")
    redis.config_set("save", "10000 1")
    redis.set("something", "to save")
    redis.bgsave()
    wait_for("the failure", lambda: redis.info("persistence")["rdb_last_bgsave_status"] == "err")


def run_an_endless_script(redis: Redis) -> None:
    redis.config_set("lua-time-limit", 100)
    redis.connection_pool.get_connection().send_command("EVAL", "while true do end", 0)


def end_the_script(redis: Redis) -> None:
    redis.script_kill()
    wait_for("the end of the script", lambda: does(redis.ping))


def does(act: Callable[[], object]) -> bool:
    try:
        act()
    except RedisError:
        return False
    return True


def demand_a_password(redis: Redis) -> None:
    redis.config_set("requirepass", "secret")
    redis.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


REFUSALS = {
    "MISCONF": Refusal(fail_to_save, lambda redis: redis.config_set("save", "")),
    "OOM": Refusal(lambda redis: redis.config_set("maxmemory", 1), lambda redis: redis.config_set("maxmemory", 0)),
    "READONLY": Refusal(lambda redis: redis.slaveof("127.0.0.1", 1), lambda redis: redis.slaveof()),
    "NOPERM": Refusal(
        lambda redis: redis.execute_command("ACL SETUSER default -brpop -evalsha -publish"),
        lambda redis: redis.execute_command("ACL SETUSER default +@all"),
    ),
    "NOAUTH": Refusal(demand_a_password, lambda redis: redis.config_set("requirepass", "")),
    "BUSY": Refusal(run_an_endless_script, end_the_script),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_a_worker_waits_while_redis_refuses_and_logs_it_once(server: RedisServer, cluster: Cluster, name: str) -> None:
    worker = start_worker(cluster, FAKE_STEP_MS="20")
    _, reader = cluster.stream("endless", max_new_tokens=200)
    wait_for("the first tokens", lambda: reader.text)
    with REFUSALS[name].on(server.url):
        time.sleep(6)  # longer than the lease and several attempts
        assert worker.is_running()
    cluster.wait_until_taking_jobs("a")
    reader.to_end()
    assert reader.text == ("abc " * 200)[:200]
    assert_serves(cluster, worker)
    assert_said_once(worker)


def test_a_worker_that_starts_while_redis_refuses_waits_too(server: RedisServer, cluster: Cluster) -> None:
    with REFUSALS["READONLY"].on(server.url):
        worker = cluster.start_worker("a")
        wait_for("the worker to wait", lambda: "Redis cannot be used" in worker.log.read_text())
        time.sleep(3)
        assert worker.is_running()
    cluster.wait_until_taking_jobs("a")
    assert_serves(cluster, worker)
    assert_said_once(worker)


def assert_said_once(worker: Process) -> None:
    """There is one line at its beginning and one at its end, and no other warning."""
    wait_for("the line that it is over", lambda: "Redis can be used again" in worker.log.read_text())
    log = worker.log.read_text()
    assert log.count("Redis cannot be used") == log.count("Redis can be used again") == 1, log
    assert len(re.findall(r"(WARNING|ERROR|CRITICAL) +(?!py\.warnings)", log)) == 2, log
    assert "Traceback" not in log
