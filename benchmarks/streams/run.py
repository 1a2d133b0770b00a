"""One run: starts everything, opens the streams, generates, and returns the results."""

from __future__ import annotations

import asyncio
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.serving import percentile
from benchmarks.streams.clients import Clients, Stream
from benchmarks.streams.fake_worker import Load, Signals, work
from tests.api_process import ApiProcess, running_api
from tests.redis_server import RedisServer, running_server

WARM_UP = Load(streams=20, tokens=3, rate=10, rows=20)  # excludes the cost of one-time initialisation
START_S = 60.0
PATIENCE_S = 300.0


@dataclass(frozen=True)
class Cost:
    """The resources used at a point in time: the API's memory in bytes, and the CPU time of each process in us."""

    at: float  # monotonic, in seconds
    memory: int
    api: float
    redis: float
    worker: float

    def since(self, earlier: Cost, count: int) -> str:
        """Return the CPU time used since then, per one of `count`."""
        used = {name: getattr(self, name) - getattr(earlier, name) for name in ("api", "redis", "worker")}
        return ", ".join(f"{name} {us / max(count, 1):.1f}" for name, us in used.items())


@dataclass(frozen=True)
class Measurements:
    """The results of a run. `wrong` describes each stream that lost or duplicated tokens."""

    load: Load
    not_connected: int
    wrong: list[str]
    delays_ms: list[float]
    wall_s: float
    before: Cost
    opened: Cost
    streamed: Cost  # all tokens but each stream's last
    ended: Cost

    def report(self) -> str:
        """Return the result as text."""
        count, tokens = self.load.streams, len(self.delays_ms)
        delays = ", ".join(f"p{percent} {percentile(self.delays_ms, percent):.1f}" for percent in (50, 95, 99))
        kib = [(cost.memory - self.before.memory) / count / 1024 for cost in (self.opened, self.ended)]
        lines = [
            f"streams: {count}, not connected {self.not_connected}, with lost or duplicated tokens {len(self.wrong)}",
            *self.wrong[:5],
            f"all open after: {self.opened.at - self.before.at:.1f} s",
            f"API memory: {kib[0]:.0f} KiB per stream once all are open, {kib[1]:.0f} at the end",
            f"CPU us to open a stream: {self.opened.since(self.before, count)}",
            f"CPU us per token: {self.streamed.since(self.opened, tokens - count)}",
            f"CPU us to end a stream, with its last token: {self.ended.since(self.streamed, count)}",
            f"CPU us of the whole run per token: {self.ended.since(self.before, tokens)}",
            f"CPU us of the whole run per stream: {self.ended.since(self.before, count)}",
            f"from a token's write to its client's read, ms: {delays}, max {max(self.delays_ms, default=0):.1f}",
            f"throughput: {tokens} tokens in {self.wall_s:.1f} s, {tokens / self.wall_s:.0f} per second",
        ]
        return "\n".join(lines)


def run(load: Load) -> Measurements:
    """Run the benchmark with its own processes."""
    _allow_open_files(load.streams)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        redis = stack.enter_context(running_server(folder))
        api = stack.enter_context(running_api(folder, redis_url=redis.url, max_queue=load.streams + 100))
        _measure(redis, api, WARM_UP)
        return _measure(redis, api, load)


def _allow_open_files(streams: int) -> None:
    """Raise the limit of open files: each client's connection needs one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(streams + 200, hard)), hard))


def _measure(redis: RedisServer, api: ApiProcess, load: Load) -> Measurements:
    with _worker(redis.url, load) as (worker, signals):
        processes = (_serving_process(api), psutil.Process(redis.pid), psutil.Process(worker))
        return asyncio.run(asyncio.wait_for(_follow(api, load, signals, processes), PATIENCE_S))


@contextmanager
def _worker(redis_url: str, load: Load) -> Iterator[tuple[int, Signals]]:
    """Start the worker's process and wait until it can claim jobs; yield its pid and what it waits for."""
    spawn = multiprocessing.get_context("spawn")
    signals = Signals(spawn.Event(), spawn.Event(), spawn.Event())
    process = spawn.Process(target=work, args=(redis_url, load, signals), daemon=True)
    process.start()
    try:
        if not signals.ready.wait(START_S):
            raise TimeoutError(f"the worker was not ready after {START_S:.0f} s")
        yield process.pid or 0, signals
    finally:
        process.kill()
        process.join()


async def _follow(api: ApiProcess, load: Load, signals: Signals, processes: Sequence[psutil.Process]) -> Measurements:
    clients = Clients(int(api.url.rpartition(":")[2]), load.streams)
    before = _cost(processes)
    await clients.open()
    opened = _cost(processes)
    signals.begin.set()
    await clients.have(load.tokens - 1)
    streamed = _cost(processes)
    signals.end.set()
    await clients.end()
    return _measurements(load, clients, before, opened, streamed, _cost(processes))


def _serving_process(api: ApiProcess) -> psutil.Process:
    """Return the serving process: gunicorn's child."""
    (process,) = psutil.Process(api.process.pid).children()
    return process


def _cost(processes: Sequence[psutil.Process]) -> Cost:
    times = [process.cpu_times() for process in processes]
    cpu_us = [(one.user + one.system) * 1e6 for one in times]
    return Cost(time.monotonic(), processes[0].memory_info().rss, *cpu_us)


def _measurements(
    load: Load, clients: Clients, before: Cost, opened: Cost, streamed: Cost, ended: Cost
) -> Measurements:
    tokens = [token for stream in clients.streams for token in stream.tokens]
    written, read = [token.written for token in tokens], [token.read for token in tokens]
    return Measurements(
        load,
        len(clients.not_connected),
        [fault for stream in clients.streams if (fault := _fault(stream, load.tokens))],
        [(token.read - token.written) / 1e6 for token in tokens],
        (max(read) - min(written)) / 1e9 if tokens else float("nan"),
        before,
        opened,
        streamed,
        ended,
    )


def _fault(stream: Stream, num_tokens: int) -> str | None:
    """Return a description of what is wrong with the stream's tokens; None if they are correct."""
    numbers, ids = [token.number for token in stream.tokens], [token.event_id for token in stream.tokens]
    if numbers != list(range(num_tokens)) or not stream.is_complete:
        return f"tokens {numbers}, {'complete' if stream.is_complete else 'not complete'}; last bytes {stream.last!r}"
    if ids != list(range(ids[0], ids[0] + num_tokens)):
        return f"event ids {ids}"
    return None
