"""Measures what a fleet of workers costs Redis: heartbeats, requests, metrics.

    python -m benchmarks.fleet [--workers 10,100,1000] [--operations 50]

A real Redis, and the project's own code in this process plays the workers and the API: a heartbeat does what a worker's
does (report, leases, reaping, adoption, watchdog, metrics), and nothing is computed. Every place of every worker runs a
job of one of two owners, and more jobs wait. The times are the Redis server's CPU time; those of `/metrics` are also
this process's, because an API process answers them.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import cast

from prometheus_client import CollectorRegistry, generate_latest
from redis import Redis

from api.observation.fleet_metrics import FleetMetrics
from common.fleet import Fleet, WorkerReport, WorkerState
from common.jobs import events
from common.jobs.job import JobKind, JobState
from common.jobs.store import Claim, JobOptions, JobStore, WakeUp
from common.observation.metrics_store import MetricsStore, to_wire
from common.queue import worker_queues
from common.redis import keys
from common.redis.client import connect
from tests.redis_server import running_server
from worker.liveness.heartbeat import BEATS_PER_LEASE, REAPS_PER_LEASE
from worker.liveness.watchdog import Watchdog
from worker.observation.instruments import Instruments
from worker.observation.metrics import REPORT_EVERY_S
from worker.observation.model_labels import ModelLabels

PLACES = 32
LEASE_S = 600.0  # nothing expires during a run
NORMAL_LEASE_S = 5.0  # the default of SLM_LEASE_S, for the load per second
OWNERS = ("ann", "bob")
WAITING = 200  # jobs in the queue
PARAMS = {"prompt": "Say many things.", "sampling": {"max_new_tokens": 64}}


class Crew:
    """Plays all workers: claims what is dispatched to them."""

    def __init__(self, redis: Redis, num_workers: int) -> None:
        self.redis = redis
        self.num_workers = num_workers
        self.running: dict[str, Claim] = {}
        self._seqs: dict[str, int] = {}
        self._dispatched: list[str] = []
        self._numbers = count()
        self.store = JobStore(redis, self._take, job_ttl_s=3600)
        self.fleet = Fleet(redis)
        self._metrics = _worker_metrics()

    def _take(self, wake_ups: Sequence[WakeUp]) -> None:
        self._dispatched += [one.job_id for one in wake_ups]

    def report(self, number: int) -> WorkerReport:
        """Return a worker's report."""
        return WorkerReport(f"w{number}@host", "host", 1, WorkerState.READY, slots=PLACES, base_model="fake")

    def register(self) -> None:
        """Let every worker report once."""
        self.redis.hset(keys.API_KEYS, mapping=dict.fromkeys(OWNERS, "{}"))
        for number in range(self.num_workers):
            self.fleet.beat(self.report(number), ttl_s=LEASE_S)
            MetricsStore(self.redis).put(f"w{number}@host", self._metrics, ttl_s=LEASE_S)

    def submit(self) -> None:
        """Add a job."""
        number = next(self._numbers)
        owner = OWNERS[number % len(OWNERS)]
        options = JobOptions(reader_grace_s=LEASE_S)
        self.store.submit(f"job{number}", JobKind.STREAM, PARAMS, owner=owner, max_queue=10**9, options=options)

    def claim(self) -> None:
        """Claim what was dispatched."""
        while self._dispatched:
            claim = self.store.claim(self._dispatched.pop(), "w0@host", lease_s=LEASE_S)
            if claim is not None:
                self.running[claim.job.id] = claim
                self._seqs[claim.job.id] = claim.next_seq

    def fill(self) -> None:
        """Let every place run a job, and jobs wait."""
        for _ in range(self.num_workers * PLACES + WAITING):
            self.submit()
            self.claim()

    def finish(self) -> None:
        """End a running job; the next one is dispatched."""
        job_id, claim = self.running.popitem()
        last = [events.finished(self._seqs[job_id], JobState.SUCCEEDED)]
        self.store.succeed(job_id, claim.attempt, {}, last)

    def step(self) -> None:
        """Write a token of each job of a worker's batch."""
        batch = list(self.running.values())[:PLACES]
        self.store.emit(
            [(one.job.id, one.attempt, [events.token(self._seqs[one.job.id], " word", [17])]) for one in batch]
        )
        for one in batch:
            self._seqs[one.job.id] += 1

    def beat(self) -> None:
        """Do what a worker does at each heartbeat."""
        self.fleet.beat(self.report(0), ttl_s=LEASE_S)
        batch = list(self.running.values())[:PLACES]
        self.store.renew([(one.job.id, one.attempt) for one in batch], lease_s=LEASE_S)
        self.store.reap(NORMAL_LEASE_S / REAPS_PER_LEASE)
        Watchdog(self.redis, worker_queues(""), lambda: True, lambda: None).check()
        self.store.adopt("fake", "", is_default=True)

    def put_metrics(self) -> None:
        """Report a worker's metrics."""
        MetricsStore(self.redis).put("w0@host", self._metrics, ttl_s=LEASE_S)


def _worker_metrics() -> str:
    """Return the metrics of a worker that has served two models."""
    made = Instruments()
    for model in (ModelLabels("fake", "fake"), ModelLabels("support@3", "fake")):
        made.prompt_tokens.labels(*model).inc()
        made.generation_tokens.labels(*model).inc()
        made.ended.labels(*model, "stop").inc()
    return to_wire(made.families())


def redis_cpu_s(redis: Redis) -> float:
    """Return the CPU seconds that the server has used."""
    info = cast(dict[str, float], redis.info("cpu"))
    return info["used_cpu_user"] + info["used_cpu_sys"]


class Meter:
    """Measures an operation's CPU time in the server, in µs each."""

    def __init__(self, redis: Redis, times: int) -> None:
        self._redis = redis
        self._times = times

    def of(self, operation: Callable[[], None], times: int = 0) -> float:
        """Run it several times."""
        times = times or self._times
        before = redis_cpu_s(self._redis)
        for _ in range(times):
            operation()
        return (redis_cpu_s(self._redis) - before) / times * 1e6


def measure(redis: Redis, num_workers: int, operations: int) -> dict[str, float]:
    """Return the figures of a fleet."""
    redis.flushall()
    crew, meter = Crew(redis, num_workers), Meter(redis, operations)
    crew.register()
    idle_us = meter.of(crew.beat)
    crew.fill()
    memory = cast(dict[str, int], redis.info("memory"))["used_memory"]
    figures = {
        "heartbeat, idle": idle_us,
        "heartbeat, 32 jobs": meter.of(crew.beat),
        "metrics of a worker": meter.of(crew.put_metrics),
        "submit": meter.of(crew.submit),
        "finish": meter.of(crew.finish),
        "claim": meter.of(crew.claim, 1) / operations,
        "step of 32 rows": meter.of(crew.step),
    }
    per_s = num_workers * BEATS_PER_LEASE / NORMAL_LEASE_S
    reports_per_s = num_workers / REPORT_EVERY_S
    figures["% of Redis' core: heartbeats"] = (
        figures["heartbeat, 32 jobs"] * per_s + figures["metrics of a worker"] * reports_per_s
    ) / 1e4
    return figures | scrape(redis) | {"Redis, MiB": memory / 2**20}


def scrape(redis: Redis) -> dict[str, float]:
    """Return the cost of `GET /metrics`."""
    registry = CollectorRegistry()
    registry.register(FleetMetrics(redis))
    begun = time.process_time()
    text = generate_latest(registry)
    return {"/metrics, ms of the API": (time.process_time() - begun) * 1e3, "/metrics, KiB": len(text) / 1024}


@contextmanager
def running_redis() -> Iterator[Redis]:
    """A Redis of its own."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        yield stack.enter_context(connect(stack.enter_context(running_server(folder)).url))


def main(argv: Sequence[str] | None = None) -> int:
    """Measure each size, and print a table."""
    parser = argparse.ArgumentParser(description="What a fleet of workers costs Redis.")
    parser.add_argument("--workers", default="10,100,1000")
    parser.add_argument("--operations", type=int, default=50, help="how often each is done (default: 50)")
    options = parser.parse_args(argv)
    with running_redis() as redis:
        for num_workers in map(int, options.workers.split(",")):
            print(f"{num_workers} workers (µs of Redis unless stated otherwise)")
            for name, value in measure(redis, num_workers, options.operations).items():
                print(f"  {name:32} {value:12.1f}", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
