"""Counts tokens lost, duplicated or reordered in streams under random kills (0 expected), and how long clients wait.

    python -m benchmarks.chaos [--minutes 10] [--clients 8] [--every 20] [--worker tests.fake_worker|worker.app]

Two workers, an API and a Redis run; clients stream one generation after another. Every few seconds one of these
happens: SIGKILL of a worker, of the API, of Redis, or of a worker together with one of them; or a worker is stopped
(SIGSTOP) for longer than its lease and then continues. A killed process is restarted a second later. A client with a
broken connection reconnects: with its Idempotency-Key if it has no job id yet, else after the last frame it received
(Last-Event-ID). Each response must be identical to that of an undisturbed run.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import signal
import statistics
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

from common.settings import ROOT
from tests.free_port import free_port
from tests.processes import Cluster, Process, running_cluster, wait_for
from tests.redis_server import RedisServer, running_server

LEASE_S = 3
RESTART_S = 1.0
RETRY_S = 0.25
PAUSE_S = 1.0  # a gap between two frames that counts as a pause
FAKE = "tests.fake_worker"
BROKEN = (OSError, http.client.HTTPException)


@dataclass
class Tally:
    """The observations of all clients."""

    begun: int = 0
    ended: int = 0
    wrong: list[str] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    reconnects: int = 0
    disturbed: int = 0
    blows: Counter[str] = field(default_factory=Counter)

    def report(self) -> str:
        """Return the result as text."""
        pauses = sorted(self.pauses) or [0.0]
        p50, p95 = statistics.median(pauses), pauses[int(0.95 * (len(pauses) - 1))]
        counts = f"begun {self.begun}, ended {self.ended}; disturbed {self.disturbed}; reconnects {self.reconnects}"
        spread = f"{len(self.pauses)}; p50 {p50:.1f} s, p95 {p95:.1f} s, max {pauses[-1]:.1f} s"
        return "\n".join(
            [
                f"kills and stops: {sum(self.blows.values())} ({dict(self.blows)})",
                f"streams {counts}",
                f"streams with tokens lost, duplicated, reordered or different: {len(self.wrong)}",
                *self.wrong[:5],
                f"pauses over {PAUSE_S:.0f} s: {spread}",
            ]
        )


class Frames:
    """One stream, which reconnects if necessary."""

    def __init__(self, port: int, body: dict[str, object], tally: Tally, host: str = "127.0.0.1") -> None:
        self._host = host
        self._port = port
        self._body = body
        self._tally = tally
        self._key = str(uuid.uuid4())
        self._job_id: str | None = None
        self._last_id = -1

    def __iter__(self) -> Iterator[tuple[int, dict[str, object]]]:
        """Yield (id, data) of each frame, including the last."""
        while True:
            with suppress(*BROKEN):
                for number, data in self._connect():
                    yield number, data
                    if "device_used" in data or "error" in data:
                        return
            self._tally.reconnects += 1
            time.sleep(RETRY_S)

    def _connect(self) -> Iterator[tuple[int, dict[str, object]]]:
        with closing(http.client.HTTPConnection(self._host, self._port, timeout=60)) as connection:
            self._request(connection)
            with closing(connection.getresponse()) as answer:
                if answer.status == http.client.OK:
                    self._job_id = answer.headers["X-Job-Id"] or self._job_id
                    yield from self._frames(answer)
                elif answer.status not in (http.client.SERVICE_UNAVAILABLE, http.client.CONFLICT):
                    raise AssertionError(f"{answer.status}: {answer.read()!r}")

    def _request(self, connection: http.client.HTTPConnection) -> None:
        if self._job_id is None:
            headers = {"Content-Type": "application/json", "Idempotency-Key": self._key}
            connection.request("POST", "/slm/stream", json.dumps(self._body), headers)
        else:
            seen = {"Last-Event-ID": str(self._last_id)} if self._last_id >= 0 else {}
            connection.request("GET", f"/slm/jobs/{self._job_id}/stream", headers=seen)

    def _frames(self, answer: http.client.HTTPResponse) -> Iterator[tuple[int, dict[str, object]]]:
        number = -1
        for line in answer:
            if line.startswith(b"id: "):
                number = int(line[4:])
            elif line.startswith(b"data: "):
                data = json.loads(line[6:])
                if number > self._last_id or "error" in data:  # an error that ends only the stream has no id
                    self._last_id = max(self._last_id, number)
                    yield number, data
                number = -1


class Client(threading.Thread):
    """Streams one generation after another and checks each."""

    def __init__(
        self,
        number: int,
        port: int,
        expected: Callable[[int], tuple[dict[str, object], str]],
        tally: Tally,
        host: str = "127.0.0.1",
    ) -> None:
        super().__init__(daemon=True)
        self._host = host
        self._number = number
        self._port = port
        self._expected = expected
        self._tally = tally
        self.stopping = threading.Event()

    def run(self) -> None:
        """Run until `stopping` is set."""
        turn = 0
        while not self.stopping.is_set():
            body, text = self._expected(self._number * 1000 + turn)
            self._tally.begun += 1
            self._check(body, text)
            self._tally.ended += 1
            turn += 1

    def _check(self, body: dict[str, object], expected: str) -> None:
        text, last, pauses, reconnects = "", time.monotonic(), 0, self._tally.reconnects
        for _, data in Frames(self._port, body, self._tally, self._host):
            now = time.monotonic()
            if now - last > PAUSE_S:
                self._tally.pauses.append(now - last)
                pauses += 1
            last = now
            text += str(data.get("text", ""))
            if "error" in data:
                self._tally.wrong.append(f"ended with {data}")
                return
        self._tally.disturbed += bool(pauses or self._tally.reconnects != reconnects)
        if text != expected:
            self._tally.wrong.append(f"{body}: got {len(text)} characters, expected {len(expected)}: {text[:80]!r}...")


class Chaos:
    """Runs the processes, and kills and restarts them at random."""

    def __init__(self, cluster: Cluster, redis: RedisServer, port: int, worker_app: str, tally: Tally) -> None:
        self._cluster = cluster
        self._redis = redis
        self._port = port
        self._worker_app = worker_app
        self._tally = tally
        self._random = random.Random(1)  # noqa: S311 - which process dies is no secret
        self.api: Process = cluster.start_api(port, SLM_DRAIN_S="1")
        self.workers: dict[str, Process] = {}
        for name in ("a", "b"):
            self._start_worker(name)
        cluster.wait_until_taking_jobs("a", "b")

    def strike(self) -> None:
        """Kill or stop something at random, and restore it."""
        blow = self._random.choice([self._worker, self._api, self._redis_dies, self._two, self._freeze])
        self._tally.blows[blow.__name__.strip("_")] += 1
        blow()

    def _start_worker(self, name: str) -> None:
        self.workers[name] = self._cluster.start_worker(name, self._worker_app)

    def _worker(self) -> None:
        name = self._random.choice(list(self.workers))
        self.workers[name].kill()
        time.sleep(RESTART_S)
        self._start_worker(name)

    def _api(self) -> None:
        self.api.kill()
        time.sleep(RESTART_S)
        self.api = self._cluster.start_api(self._port, SLM_DRAIN_S="1")

    def _redis_dies(self) -> None:
        self._redis.kill()
        time.sleep(RESTART_S)
        self._redis.start()

    def _two(self) -> None:
        """Kill a worker, and at the same time the API or Redis."""
        name = self._random.choice(list(self.workers))
        self.workers[name].kill()
        self._random.choice([self._api, self._redis_dies])()
        self._start_worker(name)

    def _freeze(self) -> None:
        """Stop a worker for longer than its lease: its jobs go to others before it continues."""
        victim = self._random.choice(list(self.workers.values()))
        victim.signal(signal.SIGSTOP)
        time.sleep(2 * LEASE_S)
        victim.signal(signal.SIGCONT)


def fake_answers(number: int) -> tuple[dict[str, object], str]:
    """Return a request and its response: the fake model repeats "abc " up to the token limit."""
    count = 200 + number % 100
    return {"prompt": f"endless {number}", "max_new_tokens": count}, ("abc " * count)[:count]


def _real_answers(port: int) -> Callable[[int], tuple[dict[str, object], str]]:
    """Return requests with the undisturbed responses of the real model, some greedy and some seeded."""
    bodies: list[dict[str, object]] = [
        {"prompt": f"Tell me {n} facts about robots.", "max_new_tokens": 80, "seed": n, "temperature": 0.8 * (n % 2)}
        for n in range(4, 10)
    ]
    texts = ["".join(str(data.get("text", "")) for _, data in Frames(port, body, Tally())) for body in bodies]
    return lambda number: (bodies[number % len(bodies)], texts[number % len(bodies)])


def run(*, minutes: float, clients: int, every_s: float, worker_app: str) -> Tally:
    """Run the benchmark, and return the observations."""
    tally = Tally()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        (folder / "redis").mkdir()
        redis = stack.enter_context(running_server(folder / "redis"))
        env = {"SLM_LEASE_S": str(LEASE_S), "FAKE_STEP_MS": "25", "SLM_DATA_DIR": str(ROOT / "data")}
        cluster = stack.enter_context(running_cluster(redis.url, folder, **env))
        port = free_port()
        chaos = Chaos(cluster, redis, port, worker_app, tally)
        wait_for("the API", lambda: is_answering(port))
        expected = fake_answers if worker_app == FAKE else _real_answers(port)
        clients = [Client(number, port, expected, tally) for number in range(clients)]
        for client in clients:
            client.start()
        end = time.monotonic() + minutes * 60
        while time.monotonic() + every_s < end:
            time.sleep(every_s)
            chaos.strike()
        stop_all(clients)
    return tally


def stop_all(clients: Sequence[Client]) -> None:
    """Let every client end its stream."""
    for client in clients:
        client.stopping.set()
    for client in clients:
        client.join(300)


def is_answering(port: int, host: str = "127.0.0.1") -> bool:
    """Whether the API on that port is up."""
    with suppress(*BROKEN), closing(http.client.HTTPConnection(host, port, timeout=5)) as connection:
        connection.request("GET", "/healthz")
        with closing(connection.getresponse()) as answer:
            return answer.status == http.client.OK
    return False


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark and print the result; returns status 1 if a stream was wrong or did not end."""
    parser = argparse.ArgumentParser(description="Streams under random kills.")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--every", type=float, default=20, help="seconds between two kills or stops (default: 20)")
    parser.add_argument("--worker", default=FAKE, help=f"Celery application of the workers (default: {FAKE})")
    options = parser.parse_args(argv)
    tally = run(minutes=options.minutes, clients=options.clients, every_s=options.every, worker_app=options.worker)
    print(tally.report())
    return int(bool(tally.wrong) or tally.begun != tally.ended)


if __name__ == "__main__":
    raise SystemExit(main())
