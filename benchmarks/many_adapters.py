"""Compares requests for many adapters with requests for one: a running server, HTTP, queue, engine.

    SLM_ADAPTER_MEMORY=110MB python start_slm_api.py          # in another shell: room for 20 adapters of rank 16
    python -m benchmarks.many_adapters [--url http://127.0.0.1:5000] [--adapters 100] [--requests 1000] [--clients 16]

Publishes random adapters on all linear layers, asks each once alone, then sends requests for random ones, and as many
for one of them, in turns. Every answer is compared with the one given alone. The adapters are deleted at the end.
"""

from __future__ import annotations

import argparse
import random
import tarfile
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import requests

from benchmarks.adapter_loading import save_adapter
from common.settings import Settings
from models.base_model import resolve_base_model
from worker.engine.loading.base_files import base_shapes

PROMPT = "Tell me about bridges."
NEW_TOKENS = 32
PARTS = 4  # so that both kinds of requests see the same machine
PREFIX = "bench-"


class Server:
    """A running server, as its admin sees it."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._session = requests.Session()
        self._session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=64))

    def _call(self, method: str, path: str, **options: Any) -> Any:
        response = self._session.request(method, f"{self._url}{path}", timeout=600, **options)
        response.raise_for_status()
        return response.json()

    def publish(self, name: str, folder: Path) -> None:
        """Publish the adapter in a folder."""
        with tempfile.TemporaryFile() as archive:
            with tarfile.open(fileobj=archive, mode="w") as tar:
                tar.add(folder, name)
            archive.seek(0)
            headers = {"Content-Type": "application/x-tar"}
            self._call("POST", f"/slm/adapters?name={name}", data=archive, headers=headers)

    def delete(self, name: str) -> None:
        """Delete an adapter with all its versions."""
        self._call("DELETE", f"/slm/adapters/{name}")

    def answer(self, name: str) -> str:
        """Return the adapter's answer."""
        body = {"prompt": PROMPT, "model": name, "max_new_tokens": NEW_TOKENS, "temperature": 0, "ignore_eos": True}
        return str(self._call("POST", "/slm/generate", json=body)["response"])


def timed(server: Server, names: list[str], clients: int, expected: dict[str, str]) -> float:
    """Send the requests; return the seconds. Raises `SystemExit` if an answer is another one than alone."""
    begin = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        answers = list(pool.map(server.answer, names))
    seconds = time.perf_counter() - begin
    if wrong := [name for name, answer in zip(names, answers, strict=True) if answer != expected[name]]:
        raise SystemExit(f"{len(wrong)} of {len(names)} answers are not those given alone, e.g. of {wrong[0]}")
    return seconds


def publish_all(server: Server, names: list[str], rank: int) -> None:
    """Publish a random adapter under each name."""
    settings = Settings()
    shapes = base_shapes(resolve_base_model(settings.base_model, settings.data_dir, progress=print))
    for number, name in enumerate(names):
        with tempfile.TemporaryDirectory() as scratch:
            save_adapter(Path(scratch) / name, dict(shapes), rank, number)
            server.publish(name, Path(scratch) / name)


def compare(server: Server, names: list[str], args: argparse.Namespace) -> None:
    """Measure and print the results."""
    expected = {name: server.answer(name) for name in names}
    print(f"{len(names)} adapters give {len(set(expected.values()))} different answers")
    choice, count = random.Random(0), args.requests // PARTS  # noqa: S311 - not for cryptography
    many = one = 0.0
    for _ in range(PARTS):
        one += timed(server, [names[0]] * count, args.clients, expected)
        many += timed(server, choice.choices(names, k=count), args.clients, expected)
    print(
        f"one adapter {count * PARTS / one:.1f}, {len(names)} adapters {count * PARTS / many:.1f} requests per second"
    )
    print(f"ratio {one / many:.2f}; all answers are those given alone")


def main() -> None:
    """Publish, measure, delete."""
    parser = argparse.ArgumentParser(description="Requests for many adapters, compared with requests for one.")
    parser.add_argument("--url", default="http://127.0.0.1:5000")
    parser.add_argument("--adapters", type=int, default=100)
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--rank", type=int, default=16)
    args = parser.parse_args()
    server, names = Server(args.url), [f"{PREFIX}{number}" for number in range(args.adapters)]
    try:
        publish_all(server, names, args.rank)
        compare(server, names, args)
    finally:
        for name in names:
            server.delete(name)


if __name__ == "__main__":
    main()
