"""A small server with the routes for adapters, aliases and models, which answer what a test has prepared."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from flask import Flask, Response, jsonify, request
from werkzeug.serving import make_server

VERSION = {
    "name": "support",
    "version": 2,
    "id": "ab" * 32,
    "base": "gpt2",
    "rank": 16,
    "modules": ["c_attn"],
    "bytes": 4_900_000,
    "created": "2026-11-26T20:00:00.000Z",
    "summary": None,
    "aliases": ["prod"],
    "workers": ["w1"],
}
ALIAS = {"name": "prod", "model": "support@2", "history": ["support@1"]}
NAMED = {
    "name": "prod",
    "kind": "alias",
    "model": "support@2",
    "base": "gpt2",
    "parent": "gpt2",
    "version": 2,
    "adapter_id": "ab" * 32,
    "versions": [],
    "workers": [],
}


@dataclass
class RegistryServer:
    """`asked` has each request as its method, its path with the query, and its body."""

    url: str = ""
    asked: list[tuple[str, str, bytes]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    answers: dict[str, tuple[int, dict[str, Any]]] = field(default_factory=dict)

    def answer(self, path: str) -> Response:
        """Answer any request."""
        if path == "healthz":
            return jsonify(status="ok")
        self.headers = dict(request.headers)
        self.asked.append((request.method, request.full_path.rstrip("?"), request.get_data()))
        status, body = self.answers[f"{request.method} /{path}"]
        response = jsonify(body)
        response.status_code = status
        return response


@contextmanager
def registry_server(**answers: tuple[int, dict[str, Any]]) -> Iterator[RegistryServer]:
    """Start it on a loopback port."""
    server = RegistryServer(answers=answers)
    app = Flask(__name__)
    app.add_url_rule("/<path:path>", view_func=server.answer, methods=["GET", "POST", "PUT", "DELETE"])
    http = make_server("127.0.0.1", 0, app, threaded=True)
    server.url = f"http://127.0.0.1:{http.server_port}"
    thread = threading.Thread(target=http.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        http.shutdown()
        thread.join()
        http.server_close()
