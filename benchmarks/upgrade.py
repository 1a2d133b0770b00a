"""Upgrades a server under load from an earlier revision to this one, and back.

    python -m benchmarks.upgrade [--from main~50]        # any revision of this repository; needs git and nginx

As in docs/operations.md: two APIs behind nginx and two workers are replaced one by one while clients stream and
generate, then all of it again in the opposite order. Workers have the fake model, which repeats the prompt, so each
answer is known. Both revisions run in this environment: packages that only one of them needs must be there.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from common.settings import ROOT
from tests.faults.test_rolling_upgrade import PROMPT, STEP_MS, Client
from tests.free_port import free_port
from tests.nginx import running_nginx
from tests.processes import Cluster, Process, is_up, running_cluster, wait_for
from tests.redis_server import running_server

CLIENTS = 4
PAUSE_S = 5.0  # of load on both sides of a change
API = ["gunicorn", "--config", "api/gunicorn_conf.py", "api.wsgi:create_app()"]
WORKER = ["celery", "-A", "tests.fake_worker", "worker", "--without-mingle", "--without-gossip", "--loglevel", "INFO"]


def checkout(revision: str, folder: Path) -> Path:
    """Write the files of a revision into the folder."""
    folder.mkdir()
    archive = subprocess.run(["git", "archive", revision], cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "x", "-C", str(folder)], input=archive, check=True)
    return folder


class Site:
    """The processes of a server, each from the files of some revision."""

    def __init__(self, cluster: Cluster, folder: Path, ports: Sequence[int]) -> None:
        self._cluster = cluster
        self._folder = folder
        self._apis: dict[int, Process | None] = dict.fromkeys(ports)
        self._workers: list[Process] = []
        self._count = 0

    def _start(self, name: str, tree: Path, module: Sequence[str], **env: str) -> Process:
        command = ["env", "-C", str(tree), sys.executable, "-m", *module]
        return Process(name, command, self._cluster.env | env, self._folder)

    def replace_api(self, port: int, tree: Path) -> None:
        """Stop the API of a port if there is one, and start another."""
        if old := self._apis[port]:
            old.terminate()
        self._apis[port] = self._start(f"api{port}", tree, API, SLM_PORT=str(port))
        wait_for("the API", lambda: is_up(f"http://127.0.0.1:{port}"))

    def add_worker(self, tree: Path) -> None:
        """Start a worker, and wait until it takes jobs."""
        self._count += 1
        name = f"w{self._count}"
        self._workers.append(self._start(name, tree, [*WORKER, "--hostname", f"{name}@%h"], FAKE_STEP_MS=STEP_MS))
        self._cluster.wait_until_taking_jobs(name)

    def replace_worker(self, tree: Path) -> None:
        """Start a worker, then stop the oldest."""
        self.add_worker(tree)
        self._workers.pop(0).terminate()

    def upgrade(self, tree: Path) -> None:
        """Replace every process, one after the other: first the APIs, which read what old workers write."""
        for port in self._apis:
            self.replace_api(port, tree)
        for _ in range(len(self._workers)):
            self.replace_worker(tree)

    def go_back(self, tree: Path) -> None:
        """Replace every process, the workers first: an old API may not understand what new workers write."""
        for _ in range(len(self._workers)):
            self.replace_worker(tree)
        for port in self._apis:
            self.replace_api(port, tree)

    def end(self) -> None:
        """End all processes."""
        for process in (*self._apis.values(), *self._workers):
            if process is not None:
                process.end()


class Load:
    """Clients that stream and generate until they are told to stop."""

    def __init__(self, url: str) -> None:
        self.clients = [Client(url) for _ in range(CLIENTS)]
        self.texts: list[str] = []
        self._done = threading.Event()

    def _work(self, number: int) -> None:
        client = self.clients[number]
        while not self._done.is_set():
            self.texts.append(client.stream() if number % 2 else client.generate())

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run the clients during the block; raises what a client raised."""
        with ThreadPoolExecutor(CLIENTS) as pool:
            running = [pool.submit(self._work, number) for number in range(CLIENTS)]
            try:
                yield
            finally:
                self._done.set()
            for one in running:
                one.result()


def print_faults(folder: Path) -> None:
    """Print the last lines of the exceptions in the processes' logs."""
    for log in sorted(folder.glob("*.log")):
        faults = re.findall(r"^\w[\w.]*(?:Error|Exception)\b.*$", log.read_text("utf-8", "replace"), re.MULTILINE)
        for fault, number in Counter(faults).items():
            print(f"{log.stem}: {number} x {fault[:300]}")


def run(revision: str) -> bool:
    """Upgrade, go back, and print what the clients saw; returns whether every answer was right."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for name in ("redis", "nginx"):
            (folder / name).mkdir()
        redis = stack.enter_context(running_server(folder / "redis"))
        cluster = stack.enter_context(running_cluster(redis.url, folder, SLM_DRAIN_S="0.5"))
        ports = [free_port(), free_port()]
        apis = "".join(f"server 127.0.0.1:{port};" for port in ports)
        upstream = {"resolver 127.0.0.11 valid=2s ipv6=off;": f"upstream slm_apis {{ {apis} }}"}
        nginx = stack.enter_context(running_nginx(folder / "nginx", "slm_apis", changes=upstream))
        old = checkout(revision, folder / "old")
        site = Site(cluster, folder, ports)
        stack.callback(print_faults, folder)
        stack.callback(site.end)
        for port in ports:
            site.replace_api(port, old)
        for _ in range(2):
            site.add_worker(old)
        load = Load(nginx.url)
        with load.running():
            for name, move in (("upgrade", partial(site.upgrade, ROOT)), ("and back", partial(site.go_back, old))):
                time.sleep(PAUSE_S)
                before = len(load.texts)
                move()
                print(f"{name}: {len(load.texts) - before} answers meanwhile", flush=True)
            time.sleep(PAUSE_S)
        wrong = [text for text in load.texts if text != PROMPT]
        seen = [(client.resumed, client.refused) for client in load.clients]
        print(f"{len(load.texts)} answers, {len(wrong)} wrong; per client (resumed, repeated): {seen}")
        for text in wrong[:3]:
            print(f"  {text!r}")
        return not wrong


def main(argv: Sequence[str] | None = None) -> int:
    """Run it; status 1 if an answer was wrong."""
    parser = argparse.ArgumentParser(description="An upgrade under load from an earlier revision, and back.")
    parser.add_argument("--from", dest="revision", default="main~50", help="default: main~50")
    return int(not run(parser.parse_args(argv).revision))


if __name__ == "__main__":
    raise SystemExit(main())
