"""How one client's abusive requests slow another's: the time to the first token before and during each attack.

    python -m benchmarks.abuse [--attacks regex,schema] [--requests 60] [--seconds 20]

Starts a Redis, a worker with the default model and an API. One user has `--requests` abusive requests under way all the
time, each followed by the next. Another sends ordinary ones, in turn a chat and one with a JSON schema, and notes when
the first token comes. `benchmarks.attacks` has the kinds.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmarks.attacks import ATTACKS, Attack, Body, Client
from benchmarks.chaos import BROKEN, is_answering
from common.api_keys import ApiKeyStore, Role
from common.settings import ROOT
from tests.free_port import free_port
from tests.processes import Process, running_cluster, wait_for
from tests.redis_server import running_server

WORKER = "worker.app"
PAUSE_S = 0.1  # between two requests of the ordinary user
RAMP_S = 2.0  # from the first abusive request to the first that is measured
MEMORY_EVERY_S = 0.2
SCHEMA = {"type": "object", "properties": {"colour": {"type": "string", "maxLength": 20}}, "required": ["colour"]}
ORDINARY: dict[str, Body] = {
    "chat": {},
    "schema": {"response_format": {"type": "json_schema", "json_schema": {"name": "colour", "schema": SCHEMA}}},
}


@dataclass
class Crowd:
    """The abusive user: so many threads, each with one request under way."""

    client: Client
    attack: Attack
    size: int
    outcomes: Counter[str] = field(default_factory=Counter)
    _stopping: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def at_work(self, numbers: Iterator[int]) -> Iterator[None]:
        """Attack for the length of a `with` block, and then until the requests under way have been answered."""
        threads = [threading.Thread(target=self._run, args=(numbers,), daemon=True) for _ in range(self.size)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stopping.set()
            for thread in threads:
                thread.join()

    def _run(self, numbers: Iterator[int]) -> None:
        while not self._stopping.is_set():
            try:
                self.outcomes[self.attack.send(self.client, next(numbers))] += 1
            except BROKEN as err:
                self.outcomes[type(err).__name__] += 1


@dataclass
class Memory:
    """The most that a process and its children held together, in bytes, shared pages counted once."""

    process: psutil.Process
    most: int = 0

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Look every now and then for the length of a `with` block."""
        stopping = threading.Event()

        def watch() -> None:
            while not stopping.wait(MEMORY_EVERY_S):
                self.most = max(self.most, self.now())

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stopping.set()
            thread.join()

    def now(self) -> int:
        """What they hold at this moment."""
        total = 0
        for one in [self.process, *self.process.children(recursive=True)]:
            try:
                total += one.memory_full_info().pss
            except psutil.Error:
                continue
        return total


def time_to_first_token(client: Client, number: int, fields: Body) -> float:
    """Of an ordinary request that nobody has sent before, in seconds."""
    begin = time.perf_counter()
    body = {"prompt": f"Name the colour of sky number {number}.", "max_new_tokens": 8} | fields
    first = 0.0
    for status, line in client.lines("POST", "/slm/stream", body):
        data = json.loads(line[6:]) if line.startswith(b"data: ") else {}
        if status != 200 or "error" in data:
            raise RuntimeError(f"an ordinary request was answered with {status}: {line!r}")
        if not first and data.get("text"):
            first = time.perf_counter() - begin
    return first


def measure(client: Client, numbers: Iterator[int], seconds: float) -> dict[str, list[float]]:
    """Times to the first token of the kinds of ordinary requests, in turn, for so long."""
    times: dict[str, list[float]] = {kind: [] for kind in ORDINARY}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for kind, fields in ORDINARY.items():
            times[kind].append(time_to_first_token(client, next(numbers), fields))
            time.sleep(PAUSE_S)
    return times


def row(attack: Attack, before: dict[str, list[float]], during: dict[str, list[float]], rest: Sequence[str]) -> str:
    """A line of the table."""
    cells = [f"{attack.name}: {attack.what}"]
    for kind in ORDINARY:
        calm, disturbed = statistics.median(before[kind]), statistics.median(during[kind])
        worst = max(during[kind])
        cells.append(f"{calm * 1e3:.0f} | {disturbed * 1e3:.0f} | {disturbed / calm:.1f} | {worst * 1e3:.0f}")
    return f"| {' | '.join([*cells, *rest])} |"


def header() -> str:
    """The head of the table."""
    columns = ["attack"]
    for kind in ORDINARY:
        columns += [f"{kind}: before, ms", "during, p50", "ratio", "longest"]
    columns += ["worker, most MiB more", "answers"]
    return f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}"


def run(worker: Process, good: Client, bad: Client, attacks: Sequence[Attack], size: int, seconds: float) -> None:
    """Measure each attack and print its row."""
    numbers = itertools.count(1)
    measure(good, numbers, 3)
    print(header(), flush=True)
    for attack in attacks:
        before = measure(good, numbers, seconds / 2)
        crowd, memory = Crowd(bad, attack, size), Memory(psutil.Process(worker.pid))
        calm = memory.now()
        with crowd.at_work(numbers), memory.watched():
            time.sleep(RAMP_S)
            during = measure(good, numbers, seconds)
        more = f"{max(0, memory.most - calm) / 2**20:.0f}"
        answers = ", ".join(f"{count} x {status}" for status, count in sorted(crowd.outcomes.items()))
        print(row(attack, before, during, [more, answers]), flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Start everything and measure."""
    known = {attack.name: attack for attack in ATTACKS}
    parser = argparse.ArgumentParser(description="How one client's abusive requests slow another's.")
    parser.add_argument("--attacks", default=",".join(known), help="which, with commas (default: all)")
    parser.add_argument("--requests", type=int, default=60, help="abusive requests at once (default: 60)")
    parser.add_argument("--seconds", type=float, default=20, help="for which an attack is measured (default: 20)")
    options = parser.parse_args(argv)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "redis").mkdir()
        redis = stack.enter_context(running_server(folder / "redis"))
        cluster = stack.enter_context(running_cluster(redis.url, folder, SLM_DATA_DIR=str(ROOT / "data")))
        keys, port = ApiKeyStore(cluster.redis), free_port()
        good, bad = (Client(port, keys.create(name, Role.USER)) for name in ("good", "bad"))
        cluster.start_api(port)
        worker = cluster.start_worker("only", WORKER)
        cluster.wait_until_taking_jobs("only")
        wait_for("the API", lambda: is_answering(port))
        run(worker, good, bad, [known[name] for name in options.attacks.split(",")], options.requests, options.seconds)


if __name__ == "__main__":
    main()
