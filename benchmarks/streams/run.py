"""One run: starts everything, opens the streams, generates, and returns the results."""

from __future__ import annotations

import asyncio
import multiprocessing
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import psutil
from redis import Redis

from benchmarks.serving import percentile
from benchmarks.streams.clients import Clients, Stream
from benchmarks.streams.fake_worker import Load, Signals, work
from common.redis.client import connect
from tests.api_process import ApiProcess, running_api
from tests.redis_server import RedisServer, running_server

WARM_UP = Load(streams=20, tokens=3, rate=10, rows=20)  # excludes the cost of one-time initialisation
START_S = 60.0
PATIENCE_S = 1500.0


@dataclass(frozen=True)
class Cost:
    """The resources used at a point in time: memory in bytes, and the CPU time of each part in us."""

    at: float  # monotonic, in seconds
    memory: int  # of all API processes
    redis_memory: int
    connections: int  # to Redis
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
    refused: Counter[str]
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
        in_redis = [(cost.redis_memory - self.before.redis_memory) / count / 1024 for cost in (self.opened, self.ended)]
        lines = [
            f"streams: {count}, not connected {self.not_connected}, with lost or duplicated tokens {len(self.wrong)}",
            *(f"refused {count} times: {why}" for why, count in self.refused.most_common()),
            *self.wrong[:5],
            f"all open after: {self.opened.at - self.before.at:.1f} s",
            f"API memory: {kib[0]:.0f} KiB per stream once all are open, {kib[1]:.0f} at the end",
            f"Redis memory: {in_redis[0]:.1f} KiB per stream once all are open, {in_redis[1]:.1f} at the end",
            f"connections to Redis: {self.opened.connections} once all are open",
            f"CPU us to open a stream: {self.opened.since(self.before, count)}",
            f"CPU us per token: {self.streamed.since(self.opened, tokens - count)}",
            f"CPU us to end a stream, with its last token: {self.ended.since(self.streamed, count)}",
            f"CPU us of the whole run per token: {self.ended.since(self.before, tokens)}",
            f"CPU us of the whole run per stream: {self.ended.since(self.before, count)}",
            f"from a token's write to its client's read, ms: {delays}, max {max(self.delays_ms, default=0):.1f}",
            f"throughput: {tokens} tokens in {self.wall_s:.1f} s, {tokens / self.wall_s:.0f} per second",
        ]
        return "\n".join(lines)


def run(load: Load, apis: int = 1, at_once: int = 1000) -> Measurements:
    """Run the benchmark with its own processes.

    Args:
        load: what the streams do.
        apis: number of API processes.
        at_once: how many streams are being opened at the same time.
    """
    _allow_open_files(load.streams)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        redis = stack.enter_context(running_server(folder))
        folders = [folder / f"api{number}" for number in range(apis)]
        for one in folders:
            one.mkdir()
        started = [
            stack.enter_context(running_api(one, redis_url=redis.url, max_queue=load.streams + 100)) for one in folders
        ]
        _measure(redis, started, WARM_UP, at_once)
        return _measure(redis, started, load, at_once)


def _allow_open_files(streams: int) -> None:
    """Raise the limit of open files: each client's connection needs one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(streams + 200, hard)), hard))


def _measure(redis: RedisServer, apis: Sequence[ApiProcess], load: Load, at_once: int) -> Measurements:
    with _worker(redis.url, load) as (worker, signals), connect(redis.url) as client:
        serving = [_serving_process(api) for api in apis]
        meter = Meter(serving, psutil.Process(redis.pid), psutil.Process(worker), client)
        ports = [int(api.url.rpartition(":")[2]) for api in apis]
        return asyncio.run(asyncio.wait_for(_follow(ports, load, signals, meter, at_once), PATIENCE_S))


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


async def _follow(ports: Sequence[int], load: Load, signals: Signals, meter: Meter, at_once: int) -> Measurements:
    clients = Clients(ports, load.streams, at_once)
    before = meter.read()
    await clients.open()
    opened = meter.read()
    signals.begin.set()
    await clients.have(load.tokens - 1)
    streamed = meter.read()
    signals.end.set()
    await clients.end()
    return _measurements(load, clients, before, opened, streamed, meter.read())


def _serving_process(api: ApiProcess) -> psutil.Process:
    """Return the serving process: gunicorn's child."""
    (process,) = psutil.Process(api.process.pid).children()
    return process


@dataclass(frozen=True)
class Meter:
    """Reads what the processes have used."""

    apis: Sequence[psutil.Process]
    redis: psutil.Process
    worker: psutil.Process
    client: Redis

    def read(self) -> Cost:
        """Return it."""
        info = cast(dict[str, int], self.client.info())
        return Cost(
            time.monotonic(),
            sum(one.memory_info().rss for one in self.apis),
            info["used_memory"],
            info["connected_clients"],
            sum(map(_cpu_us, self.apis)),
            _cpu_us(self.redis),
            _cpu_us(self.worker),
        )


def _cpu_us(process: psutil.Process) -> float:
    times = process.cpu_times()
    return (times.user + times.system) * 1e6


def _measurements(
    load: Load, clients: Clients, before: Cost, opened: Cost, streamed: Cost, ended: Cost
) -> Measurements:
    tokens = [token for stream in clients.streams for token in stream.tokens]
    written, read = [token.written for token in tokens], [token.read for token in tokens]
    return Measurements(
        load,
        len(clients.not_connected),
        Counter(stream.refusal for stream in clients.streams if stream.refusal is not None),
        [fault for stream in clients.streams if stream.refusal is None and (fault := _fault(stream, load.tokens))],
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
        end = "complete" if stream.is_complete else "not complete"
        return f"tokens {numbers}, {end}; {stream.status!r}, last bytes {stream.last!r}"
    if ids != list(range(ids[0], ids[0] + num_tokens)):
        return f"event ids {ids}"
    return None
