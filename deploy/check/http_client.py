"""A small HTTP client for checking a server: sends JSON, reads JSON and server-sent events. Standard library only."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPResponse
from typing import Any

TIMEOUT_S = 300.0  # enough for a load from a slow disk, or for a request that waits in the queue


@dataclass(frozen=True, slots=True)
class Answer:
    """A response read to its end. `json` is None if the body is not JSON."""

    status: int
    headers: Message
    json: Any


class HttpClient:
    """A client for one server; ignores the environment's proxies. Every method raises `OSError` if it is unreachable.

    `api_key`, if given, is sent with every request.
    """

    def __init__(self, base_url: str, timeout_s: float = TIMEOUT_S, api_key: str | None = None) -> None:
        self.base_url = base_url.rstrip("/")
        self._key_header = {} if api_key is None else {"Authorization": f"Bearer {api_key}"}
        self._timeout_s = timeout_s
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def get(self, path: str) -> Answer:
        """Send a GET request; any status returns an `Answer`."""
        return self._send("GET", path, None)

    def post(self, path: str, body: object = None) -> Answer:
        """POST `body`: bytes unchanged, None as an empty body, else as JSON; any status returns an `Answer`."""
        return self._send("POST", path, body)

    def stream(self, path: str, body: object) -> tuple[str, list[Any]]:
        """POST and read all server-sent events; returns the content type and the JSON of each frame."""
        with self._open("POST", path, body) as response:
            return response.headers.get("Content-Type", ""), list(read_frames(response))

    def _send(self, method: str, path: str, body: object) -> Answer:
        try:
            with self._open(method, path, body) as response:
                return _answer(response.status, response.headers, response.read())
        except urllib.error.HTTPError as err:
            with err:
                return _answer(err.code, err.headers, err.read())

    def _open(self, method: str, path: str, body: object) -> HTTPResponse:
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        headers = {} if data is None else {"Content-Type": "application/json"}
        headers |= self._key_header
        request = urllib.request.Request(self.base_url + path, data=data, headers=headers, method=method)  # noqa: S310
        response: HTTPResponse = self._opener.open(request, timeout=self._timeout_s)
        return response


def read_frames(lines: Iterable[bytes]) -> Iterator[Any]:
    """Yield the JSON of each frame's data; comments, ids and event names are ignored."""
    data: list[bytes] = []
    for line in lines:
        text = line.rstrip(b"\r\n")
        if text.startswith(b"data:"):
            data.append(text.removeprefix(b"data:").removeprefix(b" "))
        elif not text and data:
            yield json.loads(b"\n".join(data))
            data = []


def _answer(status: int, headers: Message, body: bytes) -> Answer:
    try:
        return Answer(status, headers, json.loads(body))
    except ValueError:
        return Answer(status, headers, None)
