"""The ordinary user of `benchmarks.abuse`: sends requests and measures their latency."""

from __future__ import annotations

import itertools
import json
import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from benchmarks.abuse_client import Body, Client

PAUSE_S = 0.1  # between two requests
PATIENCE_S = 120.0
SCHEMA = {"type": "object", "properties": {"colour": {"type": "string", "maxLength": 20}}, "required": ["colour"]}
STREAMS: dict[str, Body] = {
    "chat": {},
    "schema": {"response_format": {"type": "json_schema", "json_schema": {"name": "colour", "schema": SCHEMA}}},
}
WEBHOOK = "webhook"
KINDS = (*STREAMS, WEBHOOK)

Times = dict[str, list[float]]  # seconds, by kind of request


class Receiver(ThreadingHTTPServer):
    """Receives webhooks and records when each arrived."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.arrivals: queue.Queue[float] = queue.Queue()

    @property
    def url(self) -> str:
        """The URL for webhooks."""
        return f"http://127.0.0.1:{self.server_port}/"

    @contextmanager
    def running(self) -> Iterator[Receiver]:
        """Serve during a `with` block."""
        thread = threading.Thread(target=self.serve_forever, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self.shutdown()
            self.server_close()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        self.server.arrivals.put(time.perf_counter())
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_args: object) -> None:
        """Log nothing."""


class User:
    """Sends one ordinary request of each kind after another. Every request is new, so no cache can help."""

    def __init__(self, client: Client, receiver: Receiver) -> None:
        self._client = client
        self._receiver = receiver
        self._numbers = itertools.count(1)

    def measure(self, seconds: float) -> Times:
        """Measure each kind for `seconds`: the time to the first token, or to the webhook of a one-token job."""
        times: Times = {kind: [] for kind in KINDS}
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            begin = self._ask_for_webhook()
            for kind in STREAMS:
                times[kind].append(self.time_to_first_token(kind))
                time.sleep(PAUSE_S)
            times[WEBHOOK].append(self._receiver.arrivals.get(timeout=PATIENCE_S) - begin)
        return times

    def time_to_first_token(self, kind: str) -> float:
        """Return the time to the first token of one request, in seconds."""
        begin = time.perf_counter()
        body = {"prompt": f"Name the colour of sky number {next(self._numbers)}.", "max_new_tokens": 8} | STREAMS[kind]
        first = 0.0
        for status, line in self._client.lines("/slm/stream", body):
            data = json.loads(line[6:]) if line.startswith(b"data: ") else {}
            if status != 200 or "error" in data:
                raise RuntimeError(f"an ordinary request was answered with {status}: {line!r}")
            if not first and data.get("text"):
                first = time.perf_counter() - begin
        return first

    def _ask_for_webhook(self) -> float:
        """Submit a job with a webhook; returns the time of the submission."""
        begin = time.perf_counter()
        body = {"prompt": f"{next(self._numbers)}", "max_new_tokens": 1, "webhook_url": self._receiver.url}
        self._client.json("POST", "/slm/generate", body | {"async": True})
        return begin
