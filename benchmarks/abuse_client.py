"""The HTTP client of both users in `benchmarks.abuse`."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

TIMEOUT_S = 120.0
READ_BYTES = 65_536

Body = dict[str, Any]


class Client:
    """A client with an API key. Each request uses its own connection."""

    def __init__(self, port: int, key: str) -> None:
        self._port = port
        self._key = {"Authorization": f"Bearer {key}"}

    def send(self, method: str, path: str, body: Body | bytes | None = None, kind: str = "application/json") -> str:
        """Send a request, read the whole answer, and return its status."""
        with self._asking(method, path, body, kind) as answer:
            while answer.read(READ_BYTES):
                pass
            return str(answer.status)

    def json(self, method: str, path: str, body: Body | bytes, kind: str = "application/json") -> Any:
        """Send a request and return the answer's JSON. Raises `RuntimeError` if it is an error."""
        with self._asking(method, path, body, kind) as answer:
            content = json.loads(answer.read())
            if answer.status >= http.client.BAD_REQUEST:
                raise RuntimeError(f"{method} {path} was answered with {answer.status}: {content}")
            return content

    def lines(self, path: str, body: Body) -> Iterator[tuple[int, bytes]]:
        """POST a request, and yield the status with each line of the answer as it arrives."""
        with self._asking("POST", path, body) as answer:
            for line in answer:
                yield answer.status, line

    def leave(self, path: str, body: Body, after_s: float) -> None:
        """POST a request, and close the connection after `after_s` seconds without reading the answer."""
        with self._connected("POST", path, body):
            time.sleep(after_s)

    @contextmanager
    def _asking(
        self, method: str, path: str, body: Body | bytes | None = None, kind: str = "application/json"
    ) -> Iterator[http.client.HTTPResponse]:
        with self._connected(method, path, body, kind) as connection, closing(connection.getresponse()) as answer:
            yield answer

    @contextmanager
    def _connected(
        self, method: str, path: str, body: Body | bytes | None, kind: str = "application/json"
    ) -> Iterator[http.client.HTTPConnection]:
        headers: Mapping[str, str] = self._key | {"Content-Type": kind}
        content = json.dumps(body) if isinstance(body, dict) else body
        with closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=TIMEOUT_S)) as connection:
            connection.request(method, path, content, headers)
            yield connection
