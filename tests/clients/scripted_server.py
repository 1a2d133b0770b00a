"""An HTTP server with prepared answers, one after another, for behaviour that is too rare in a real API."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MISSING = 1000  # bytes that a broken-off answer announces but does not send


@dataclass(frozen=True)
class Reply:
    """`breaks_off`: the connection ends before the answer does; with status 0 before it begins."""

    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    breaks_off: bool = False


@dataclass(frozen=True)
class Asked:
    """A request that arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


def refused(status: int, code: str, **headers: str) -> Reply:
    """An error in the form of the API."""
    body = {"success": False, "error": f"It is {code}.", "code": code, "request_id": "r1"}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, json.dumps(body).encode(), named)


def events(*frames: tuple[int, dict[str, Any]], tail: bytes = b"", breaks_off: bool = False) -> Reply:
    """A stream of numbered frames, followed by `tail`."""
    text = "".join(f"id: {number}\ndata: {json.dumps(data)}\n\n" for number, data in frames)
    headers = {"Content-Type": "text/event-stream", "X-Job-Id": "job-1"}
    return Reply(200, text.encode() + tail, headers, breaks_off)


class ScriptedServer:
    """`asked` has the requests so far. A request too many gets a 500, which no client retries."""

    def __init__(self, replies: tuple[Reply, ...]) -> None:
        self.asked: list[Asked] = []
        self._replies = list(replies)
        self._lock = threading.Lock()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def next_reply(self, asked: Asked) -> Reply:
        with self._lock:
            self.asked.append(asked)
            return self._replies.pop(0) if self._replies else refused(500, "a request that the test did not expect")

    def start(self) -> None:
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                body = json.loads(raw) if raw else None
                reply = server.next_reply(Asked(self.command, self.path, dict(self.headers), body))
                self.close_connection = True
                if reply.status:
                    self.give(reply)

            def give(self, reply: Reply) -> None:
                self.send_response(reply.status)
                for name, value in ({"Content-Type": "application/json"} | reply.headers).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(reply.body) + MISSING * reply.breaks_off))
                self.send_header("Connection", "close")
                self.end_headers()
                self.wfile.write(reply.body)

            do_GET = do_POST = do_DELETE = answer  # noqa: N815 - http.server finds them by these names

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        return Handler


@contextmanager
def scripted_server(*replies: Reply) -> Iterator[ScriptedServer]:
    """A server on a loopback port with these answers."""
    server = ScriptedServer(replies)
    server.start()
    try:
        yield server
    finally:
        server.stop()
