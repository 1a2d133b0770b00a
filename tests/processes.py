"""Runs real processes for integration tests: workers, the API, and a client of the job store."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import requests
from celery import Celery

from common.fleet import Fleet, WorkerReport
from common.jobs.event_log import EventLog
from common.jobs.events import Event
from common.jobs.job import GenerateParams, JobKind, JobRecord, Lane
from common.jobs.sampling import SamplingParams
from common.jobs.store import JobOptions, JobStore
from common.queue import Dispatcher, configure
from common.redis.client import connect
from common.redis.subscriber import Subscriber
from common.settings import ROOT, Settings
from tests.compiled_kernels import share_kernels

PATIENCE_S = 180.0  # generous: a busy machine must not fail a test

T = TypeVar("T")


def wait_for(what: str, look: Callable[[], T | None], timeout_s: float = PATIENCE_S) -> T:
    """Poll until `look` returns a true value, and return it; fails with `what` in the message after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.02)
    raise AssertionError(f"waited {timeout_s:.0f} s for {what}")


def is_up(url: str, path: str = "/healthz") -> bool:
    """Whether the API answers there; a busy one may need longer than a try."""
    try:
        return requests.get(f"{url}{path}", timeout=5).ok
    except requests.RequestException:
        return False


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill it with its children; but if coverage is measured, first let it write down what it ran.

    It must lead a process group of its own. Its children would go on for a second, and change the next test's Redis.
    """
    if "COVERAGE_PROCESS_CONFIG" in os.environ:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(30)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


class Process:
    """A child process of the test, with its output in a file."""

    def __init__(self, name: str, command: list[str], env: dict[str, str], folder: Path) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        with self.log.open("ab") as out:
            self._child = subprocess.Popen(
                command, cwd=ROOT, env=os.environ | env, stdout=out, stderr=out, start_new_session=True
            )

    @property
    def pid(self) -> int:
        return self._child.pid

    def signal(self, number: signal.Signals) -> None:
        self._child.send_signal(number)

    def kill(self) -> None:
        """Send SIGKILL, as in a crash."""
        self._child.kill()
        self._child.wait()

    def end(self) -> None:
        """At the end of a test."""
        end(self._child)

    def terminate(self) -> int:
        """Send SIGTERM, and return the exit status."""
        self._child.terminate()
        return self._child.wait(PATIENCE_S)

    def is_running(self) -> bool:
        return self._child.poll() is None


class Reader(threading.Thread):
    """Follows a job on a thread, as the API does, and keeps its events."""

    def __init__(self, log: EventLog, job_id: str) -> None:
        super().__init__(daemon=True)
        self.events: list[Event] = []
        self._follower = log.follow(job_id)

    def run(self) -> None:
        with self._follower:
            for event in self._follower.events(pulse_s=1.0):
                if event is not None:
                    self.events.append(event)

    @property
    def text(self) -> str:
        return "".join(event.data.get("text", "") for event in self.events)

    def to_end(self) -> list[Event]:
        """Wait for the terminal event, and return all events."""
        self.join(PATIENCE_S)
        assert not self.is_alive(), f"the stream did not end; so far {len(self.events)} events"
        return self.events


class Cluster:
    """Workers on one Redis, with the API's part played in this process."""

    def __init__(self, redis_url: str, folder: Path, env: dict[str, str]) -> None:
        self.env = {"SLM_REDIS_URL": redis_url, "SLM_DATA_DIR": str(folder / "data")} | env
        settings = Settings(redis_url=redis_url)
        self.redis = connect(redis_url)
        self.store = JobStore(self.redis, Dispatcher(configure(Celery("test"), settings)), job_ttl_s=600)
        self.fleet = Fleet(self.redis)
        self._folder = folder
        self._processes: list[Process] = []
        self.subscriber = Subscriber(self.redis)
        self.subscriber.start()
        self.log = EventLog(self.redis, self.subscriber)

    def start_worker(self, name: str, app: str = "tests.fake_worker", **env: str) -> Process:
        """Start a worker process; it may not be ready yet."""
        if app != "tests.fake_worker":
            share_kernels(Path((self.env | env)["SLM_DATA_DIR"]))
        command = [sys.executable, "-m", "worker.celery", "-A", app, "worker", "--hostname", f"{name}@%h"]
        command += ["--without-mingle", "--without-gossip", "--loglevel", "INFO"]
        return self._start(name, command, env)

    def start_api(self, port: int, *options: str, **env: str) -> Process:
        """Start the API with gunicorn and additional options for it; it may not be ready yet."""
        command = [sys.executable, "-m", "gunicorn", "--config", "api/gunicorn_conf.py", *options]
        command += ["api.wsgi:create_app()"]
        return self._start("api", command, {"SLM_PORT": str(port)} | env)

    def _start(self, name: str, command: list[str], env: dict[str, str]) -> Process:
        process = Process(name, command, self.env | env, self._folder)
        self._processes.append(process)
        return process

    def processes(self, name: str) -> list[Process]:
        return [process for process in self._processes if process.name == name]

    def worker(self, name: str) -> WorkerReport | None:
        """Return the worker's report; None if it does not count as alive."""
        return next((one for one in self.fleet.workers() if one.id.startswith(f"{name}@")), None)

    def wait_until_taking_jobs(self, *names: str) -> None:
        for name in names:
            wait_for(f"worker {name} to take jobs", lambda name=name: (one := self.worker(name)) and one.slots)

    def submit(
        self, kind: JobKind, prompt: str = "hello", options: JobOptions | None = None, **sampling: object
    ) -> tuple[str, Reader]:
        """Follow a new job, then submit it, as the API does."""
        job_id = str(uuid.uuid4())
        reader = Reader(self.log, job_id)
        params = GenerateParams(prompt, SamplingParams(**({"seed": 1} | sampling)))  # type: ignore[arg-type]
        wire = params.to_dict() if kind.lane is Lane.GENERATE else {}
        self.store.submit(job_id, kind, wire, owner="test", max_queue=100, options=options or JobOptions())
        reader.start()
        return job_id, reader

    def stream(
        self, prompt: str = "hello", options: JobOptions | None = None, **sampling: object
    ) -> tuple[str, Reader]:
        return self.submit(JobKind.STREAM, prompt, options, **sampling)

    def finish(self, kind: JobKind) -> JobRecord:
        """Run a job to its end and return its record."""
        job_id, reader = self.submit(kind)
        reader.to_end()
        return self.store.get(job_id)

    def stop(self) -> None:
        """Kill every process that still runs, and close the connections."""
        for process in self._processes:
            if process.is_running():
                process.signal(signal.SIGCONT)
                process.end()
        self.subscriber.stop()
        self.redis.close()


@contextmanager
def running_cluster(redis_url: str, folder: Path, **env: str) -> Iterator[Cluster]:
    """Yield an empty cluster; everything started in it ends with the block."""
    with connect(redis_url) as redis:
        redis.flushall()
    cluster = Cluster(redis_url, folder, env)
    try:
        yield cluster
    finally:
        cluster.stop()
