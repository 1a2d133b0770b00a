"""Odd requests through real sockets: each is answered in JSON, and the client receives the answer."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.client import HTTPMessage
from io import BytesIO

import pytest
import requests
from redis import Redis

from common.redis.client import connect
from tests.api_process import ApiProcess, running_api
from tests.redis_server import RedisServer
from tests.scripted_worker import ScriptedWorker, answer

TIMEOUT_S = 90
MANY_BYTES = 30_000_000  # far more than the sockets' buffers
BODY = b'{"prompt": "Hi"}'
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def api(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    folder = tmp_path_factory.mktemp("api")
    with connect(redis_server.url) as redis:
        redis.flushall()  # earlier tests may have left API keys
    with running_api(folder, redis_url=redis_server.url, drain_s=1) as api:
        yield api


@pytest.fixture
def worker(real_redis: Redis) -> Iterator[ScriptedWorker]:
    with ScriptedWorker(real_redis, answer("a ", "b")) as running:
        yield running


class Reply:
    """Return the answer, read to the end of its connection."""

    def __init__(self, raw: bytes) -> None:
        head, _, self.body = raw.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        self.status = int(first.split()[1])
        self.headers = HTTPMessage()
        for line in lines:
            name, _, value = line.partition(": ")
            self.headers[name] = value

    @property
    def json(self) -> dict[str, object]:
        assert self.headers["Content-Type"] == "application/json"
        return dict(json.loads(self.body))


def exchange(api: ApiProcess, raw: bytes) -> Reply:
    """Send the bytes, then read until the server disconnects."""
    with socket.create_connection(("127.0.0.1", int(api.url.rpartition(":")[2])), timeout=TIMEOUT_S) as client:
        client.sendall(raw)
        received = BytesIO()
        while data := client.recv(65536):
            received.write(data)
    return Reply(received.getvalue())


def request(head: str, body: bytes = b"", path: str = "/slm/generate") -> bytes:
    fixed = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
    return f"{fixed}{head}\r\n".encode() + body


@pytest.mark.parametrize(
    ("raw", "status", "code"),
    [
        (b"get /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 400, "invalid_request"),
        (b"nonsense\r\n\r\n", 400, "invalid_request"),
        (b"GET /healthz HTTP/9.9\r\nHost: x\r\n\r\n", 400, "invalid_request"),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\nbad header: x\r\n\r\n", 400, "invalid_request"),
        (request("Content-Length: 5\r\nContent-Length: 16\r\n", BODY), 400, "invalid_request"),
        (request("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"), 400, "invalid_request"),
        (request("Transfer-Encoding: gzip\r\n"), 400, "invalid_request"),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431, "head_too_large"),
        (b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: y\r\n" % n for n in range(100)) + b"\r\n", 431, "head_too_large"),
        (b"GET / HTTP/1.1\r\nX: " + b"a" * 9000 + b"\r\n\r\n", 431, "head_too_large"),
    ],
    ids=lambda value: repr(value[:40]) if isinstance(value, bytes) else None,
)
def test_input_that_is_not_http_is_refused_in_json(api: ApiProcess, raw: bytes, status: int, code: str) -> None:
    reply = exchange(api, raw)

    assert (reply.status, reply.json["success"], reply.json["code"]) == (status, False, code)
    assert reply.json["request_id"] == reply.headers["X-Request-Id"]
    assert str(reply.json["request_id"]) in api.log.read_text("utf-8")


@pytest.mark.parametrize(
    "chunks",
    [
        b"x\r\n" + BODY,
        b"5\r\n" + BODY + b"\r\n0\r\n\r\n",
        b"-5\r\n" + BODY,
        b"\r\n\r\n",
        b"10 \r\n" + BODY + b"\r\n0\r\n\r\n",
        b"10;a=\x01\r\n" + BODY + b"\r\n0\r\n\r\n",
        b"10\r\n" + BODY + b"\r\n0\r\nbad trailer\r\n\r\n",
    ],
)
@pytest.mark.parametrize("path", ["/slm/generate", "/v1/chat/completions"])
def test_broken_chunks_are_the_clients_error(api: ApiProcess, chunks: bytes, path: str) -> None:
    reply = exchange(api, request("Transfer-Encoding: chunked\r\n", chunks, path))

    assert reply.status == 400
    assert "The body is not in valid chunks: " in reply.body.decode()


@pytest.mark.parametrize("chunks", [b"10\r\n" + BODY[:5], b"10\r\n" + BODY + b"\r\n", b""])
def test_chunks_that_break_off_are_the_clients_error(api: ApiProcess, chunks: bytes) -> None:
    with socket.create_connection(("127.0.0.1", int(api.url.rpartition(":")[2])), timeout=TIMEOUT_S) as client:
        client.sendall(request("Transfer-Encoding: chunked\r\n", chunks))
        client.shutdown(socket.SHUT_WR)
        reply = Reply(client.makefile("rb").read())

    assert (reply.status, reply.json["code"]) == (400, "invalid_request")


def by_requests(url: str, body: bytes) -> int:
    return requests.post(url, data=body, headers=JSON, timeout=TIMEOUT_S).status_code


def by_requests_in_chunks(url: str, body: bytes) -> int:
    chunks = (body[begin : begin + 65536] for begin in range(0, len(body), 65536))
    return requests.post(url, data=chunks, headers=JSON, timeout=TIMEOUT_S).status_code


def by_urllib(url: str, body: bytes) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, JSON), timeout=TIMEOUT_S) as reply:
            return int(reply.status)
    except urllib.error.HTTPError as err:
        json.loads(err.read())
        return err.code


@pytest.mark.parametrize("post", [by_requests, by_requests_in_chunks, by_urllib])
@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/slm/generate", 413),
        ("/v1/chat/completions", 413),
        ("/v1/files", 415),
        ("/slm/nothing", 404),
        ("/slm/info", 405),
    ],
)
def test_clients_that_send_first_see_why_a_large_body_was_refused(
    api: ApiProcess, post: Callable[[str, bytes], int], path: str, status: int
) -> None:
    assert post(f"{api.url}{path}", b"x" * MANY_BYTES) == status


def test_a_connection_works_after_a_body_that_nobody_read(api: ApiProcess) -> None:
    with requests.Session() as session:
        refused = session.post(f"{api.url}/slm/nothing", data=b"x" * MANY_BYTES, timeout=TIMEOUT_S)
        assert (refused.status_code, session.get(f"{api.url}/healthz", timeout=TIMEOUT_S).status_code) == (404, 200)


def test_a_large_body_before_a_broken_chunk_hides_no_answer(api: ApiProcess) -> None:
    chunk = b"%x\r\n" % 100_000 + b"x" * 100_000 + b"\r\n"
    raw = request("Transfer-Encoding: chunked\r\n", chunk + b"oops\r\n" + b"x" * MANY_BYTES)

    assert exchange(api, raw).status == 400


@pytest.mark.parametrize("path", ["/slm/generate/", "//slm/generate", "/slm//generate//"])
def test_an_additional_slash_is_harmless(api: ApiProcess, worker: ScriptedWorker, path: str) -> None:
    reply = exchange(api, request(f"Content-Length: {len(BODY)}\r\n", BODY, path))

    assert (reply.status, reply.json["response"]) == (200, "a b")
