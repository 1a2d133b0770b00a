"""Deliberately slow clients delay nobody and are disconnected."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
import requests
from redis import Redis

from tests.api_process import ApiProcess, running_api
from tests.redis_server import RedisServer

TIMEOUT_S = 90
NUM_SLOW = 200
HEAD = b"POST /slm/generate HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture
def api(redis_server: RedisServer, real_redis: Redis, tmp_path: Path) -> Iterator[ApiProcess]:
    with running_api(tmp_path, redis_url=redis_server.url, body_timeout_s=2, drain_s=1) as api:
        yield api


def connect(api: ApiProcess, first: bytes) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", int(api.url.rpartition(":")[2])))
    client.settimeout(TIMEOUT_S)
    client.sendall(first)
    return client


def test_many_incomplete_heads_block_nobody_and_are_disconnected(api: ApiProcess) -> None:
    with ExitStack() as stack:
        slow = [stack.enter_context(connect(api, HEAD)) for _ in range(NUM_SLOW)]
        assert requests.get(f"{api.url}/healthz", timeout=TIMEOUT_S).ok
        assert {client.recv(100) for client in slow} == {b""}


def test_a_head_that_arrives_too_slowly_is_disconnected(api: ApiProcess) -> None:
    """Each byte arrives in time, but the whole does not."""
    with connect(api, HEAD) as client:
        client.settimeout(0.5)
        for _ in range(TIMEOUT_S):
            try:
                client.sendall(b"x")
                if client.recv(1) == b"":
                    return
            except TimeoutError:
                continue
            except ConnectionError:
                return
    raise AssertionError("the connection was never closed")


def test_a_body_that_arrives_too_slowly_is_refused_in_time(api: ApiProcess) -> None:
    with connect(api, HEAD + b"Content-Length: 1000\r\n\r\n") as client:
        client.settimeout(0.2)
        answer = b""
        deadline = time.monotonic() + TIMEOUT_S
        while not answer:
            assert time.monotonic() < deadline
            with suppress(ConnectionError):  # the answer may have arrived together with the end of the connection
                client.sendall(b" ")
            with suppress(TimeoutError):
                answer = client.recv(4096)
        client.settimeout(TIMEOUT_S)
        with suppress(ConnectionError):
            while more := client.recv(4096):  # head and body may arrive separately
                answer += more
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ")
    assert json.loads(body)["code"] == "request_timeout"
    assert requests.get(f"{api.url}/healthz", timeout=TIMEOUT_S).ok


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: y\r\n" % number for number in range(100)) + b"\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"a" * 9000 + b"\r\n\r\n",
    ],
    ids=["line", "number of fields", "field"],
)
def test_a_head_has_its_limits(api: ApiProcess, head: bytes) -> None:
    with connect(api, head) as client:
        assert client.recv(12)[:10] == b"HTTP/1.1 4"
