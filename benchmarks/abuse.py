"""Measures how one client's abusive requests slow another's: an ordinary user's latency before and during each attack.

    python -m benchmarks.abuse [--attacks regex,schema] [--requests 60] [--seconds 20]

For each attack a Redis, a worker with the default model and an API are started. One user keeps `--requests` abusive
requests in flight (`benchmarks.attacks` has the kinds). Another user sends ordinary requests (`benchmarks.abuse_user`):
a chat, one with a JSON schema, and one with a webhook.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.abuse_client import Client
from benchmarks.abuse_requests import abusive_requests
from benchmarks.abuse_user import KINDS, Receiver, Times, User
from benchmarks.attacks import ATTACKS, Attack
from benchmarks.chaos import is_answering
from common.owners.api_keys import ApiKeyStore, Role
from common.settings import ROOT
from tests.free_port import free_port
from tests.processes import Process, running_cluster, wait_for
from tests.redis_server import running_server

WORKER = "worker.app"
WARM_UP_S = 3.0
RAMP_S = 2.0  # from the first abusive request to the first measurement
MEMORY_EVERY_S = 0.5
WEBHOOKS = {"SLM_WEBHOOK_SECRET": "whsec_" + "MDEy" * 8, "SLM_WEBHOOK_ALLOW_PRIVATE": "true"}


@dataclass
class Memory:
    """The peak memory of a process and its children together, in bytes; shared pages count once."""

    process: psutil.Process
    calm: int = 0
    most: int = 0

    @property
    def more(self) -> str:
        """The increase over the memory before, in MiB."""
        return f"{max(0, self.most - self.calm) / 2**20:.0f}"

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Sample the memory periodically during a `with` block."""
        stopping = threading.Event()
        self.calm = self._now()

        def watch() -> None:
            while not stopping.wait(MEMORY_EVERY_S):
                self.most = max(self.most, self._now())

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stopping.set()
            thread.join()

    def _now(self) -> int:
        total = 0
        for one in [self.process, *self.process.children(recursive=True)]:
            try:
                total += one.memory_full_info().pss
            except psutil.Error:
                continue
        return total


@dataclass(frozen=True, slots=True)
class Server:
    """The started processes, and two clients with API keys."""

    worker: Process
    api: Process
    good: Client
    bad: Client


@contextmanager
def running_server_for_two() -> Iterator[Server]:
    """Run a server during a `with` block; its model is loaded and it accepts jobs."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "redis").mkdir()
        redis = stack.enter_context(running_server(folder / "redis"))
        env = {"SLM_DATA_DIR": str(ROOT / "data")} | WEBHOOKS
        cluster = stack.enter_context(running_cluster(redis.url, folder, **env))
        keys, port = ApiKeyStore(cluster.redis), free_port()
        good, bad = (Client(port, keys.create(name, Role.USER)) for name in ("good", "bad"))
        api, worker = cluster.start_api(port), cluster.start_worker("only", WORKER)
        cluster.wait_until_taking_jobs("only")
        wait_for("the API", lambda: is_answering(port))
        yield Server(worker, api, good, bad)


def measure(attack: Attack, size: int, seconds: float) -> str:
    """Measure an attack on a separate server; returns its row of the table."""
    with running_server_for_two() as server, Receiver().running() as receiver:
        user = User(server.good, receiver)
        user.measure(WARM_UP_S)
        before = user.measure(seconds / 2)
        memories = [Memory(psutil.Process(process.pid)) for process in (server.worker, server.api)]
        with ExitStack() as stack:
            for memory in memories:
                stack.enter_context(memory.watched())
            outcomes = stack.enter_context(abusive_requests(server.bad, attack.name, size))
            time.sleep(RAMP_S)
            during = user.measure(seconds)
        after = user.time_to_first_token("chat")
    answers = ", ".join(f"{count} x {status}" for status, count in sorted(outcomes.items()))
    return row(attack, before, during, [f"{after * 1e3:.0f}", *(memory.more for memory in memories), answers])


def row(attack: Attack, before: Times, during: Times, rest: Sequence[str]) -> str:
    """Return one line of the table."""
    cells = [f"{attack.name}: {attack.what}"]
    for kind in KINDS:
        calm, disturbed = statistics.median(before[kind]), statistics.median(during[kind])
        worst = max(during[kind])
        cells.append(f"{calm * 1e3:.0f} | {disturbed * 1e3:.0f} | {disturbed / calm:.1f} | {worst * 1e3:.0f}")
    return f"| {' | '.join([*cells, *rest])} |"


def header() -> str:
    """Return the header of the table."""
    columns = ["attack"]
    for kind in KINDS:
        columns += [f"{kind}: before, ms", "during, p50", "ratio", "longest"]
    columns += ["first chat after, ms", "worker, peak MiB added", "API, peak MiB added", "answers"]
    return f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}"


def main(argv: Sequence[str] | None = None) -> None:
    """Measure the chosen attacks, one after the other."""
    known = {attack.name: attack for attack in ATTACKS}
    parser = argparse.ArgumentParser(description="How one client's abusive requests slow another's.")
    parser.add_argument("--attacks", default=",".join(known), help="comma-separated names (default: all)")
    parser.add_argument("--requests", type=int, default=60, help="abusive requests in flight (default: 60)")
    parser.add_argument("--seconds", type=float, default=20, help="duration of each measurement (default: 20)")
    options = parser.parse_args(argv)
    print(header())
    for name in options.attacks.split(","):
        print(measure(known[name], options.requests, options.seconds), flush=True)


if __name__ == "__main__":
    main()
