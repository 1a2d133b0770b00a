"""A server at our address counts as ours only if it is our process."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from common.settings import Settings
from deploy.processes.probes import Probes
from deploy.processes.stack import Stack


class Healthy(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Log nothing."""


@pytest.fixture
def port() -> Iterator[int]:
    """The address of a server in this process that answers as an API does."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Healthy)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def probe(tmp_path: Path, port: int, pid: int | None) -> str | None:
    stack = Stack(Settings(data_dir=tmp_path, port=port, redis_url="redis://127.0.0.1:9/0"), 1, None, 3, "abc123")
    return Probes(stack, lambda _name: pid).all()["api"]()


def test_our_api_is_ready_when_it_answers(tmp_path: Path, port: int) -> None:
    assert probe(tmp_path, port, os.getpid()) == f"answers at http://127.0.0.1:{port}"


def test_another_server_at_our_address_is_not_mistaken_for_ours(tmp_path: Path, port: int) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as ours:
        assert probe(tmp_path, port, ours.pid) is None
        ours.communicate(b"\n")
    assert probe(tmp_path, port, ours.pid) is None, "it has ended"
    assert probe(tmp_path, port, None) is None, "it is about to be started again"
