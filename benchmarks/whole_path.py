"""Compares the whole path (HTTP, queue, engine, server-sent events) with its engine, which gets the same prompts alone.

    python -m benchmarks.whole_path [--workloads W1,W8,W32] [--repeat 3]

Starts a server of its own, and an engine in this process. Both serve the workloads of `benchmarks.serving` in turn,
with the bare base model. The ratios of tokens per second count only on a calm machine. So there are ratios of processor
time, too: where the cores are the limit, they say the same. The engine's processor time includes its clients, which
wait for tokens in threads; the server's does not. Then it prints the processor time of each part of the server per
token, and per request. Linux only.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

from benchmarks.rivals.process import family, processor_seconds
from benchmarks.rivals.slm_server import MAX_NUM_SEQS, SlmServer
from benchmarks.rivals.system import CONTEXT, THREADS
from benchmarks.serving import NEW_TOKENS, WARM_UP, WORKLOADS, Client, Measured, Workload, run
from common.jobs.sampling import SamplingParams
from common.settings import ROOT, Settings
from models.base_model import resolve_base_model
from worker.engine.engine import Engine
from worker.engine.loading.loader import EngineModel, load_model
from worker.engine.sequence import Sequence, SequenceOutput
from worker.model.loader import engine_config

SAMPLING = SamplingParams(seed=0, temperature=0.0, max_new_tokens=NEW_TOKENS, ignore_eos=True)
PARTS = {"gunicorn": "API", "celery": "worker", "valkey-server": "Redis", "redis-server": "Redis"}  # by command line
REST = "rest"


class Answers:
    """A `deliver` callback that gives each sequence's outputs to the client that waits for them."""

    def __init__(self) -> None:
        self._queues: dict[str, SimpleQueue[SequenceOutput]] = {}

    def __call__(self, outputs: list[SequenceOutput]) -> None:
        """Hand over the outputs of a step."""
        for output in outputs:
            self._queues[output.sequence_id].put(output)

    def submit(self, engine: Engine, sequence: Sequence) -> Iterator[SequenceOutput]:
        """Submit a sequence, and yield its outputs as they come."""
        queue = self._queues[sequence.sequence_id] = SimpleQueue()
        engine.submit(sequence)
        while True:
            output = queue.get()
            yield output
            if output.finish_reason is not None:
                return


class EngineClient:
    """A client of the engine in this process: renders a prompt as the worker does, and waits for its tokens."""

    def __init__(self, model: EngineModel, engine: Engine, answers: Answers) -> None:
        self._model, self._engine, self._answers = model, engine, answers
        self._num_tokens = 0

    def stream(self, prompt: str) -> list[float]:
        """Compute one answer; return when each piece of text arrived, in seconds after the beginning."""
        begun, times = time.perf_counter(), []
        rendered = self._model.renderer.render(prompt)
        sequence = Sequence(str(uuid.uuid4()), rendered.token_ids, SAMPLING)
        for output in self._answers.submit(self._engine, sequence):
            times.append(time.perf_counter() - begun)
            self._num_tokens += len(output.token_ids)
        return times

    def count_tokens(self) -> int:
        """Return the number of tokens of all its answers."""
        return self._num_tokens


@dataclass(frozen=True)
class Run:
    """One run of a workload; `processor` has the seconds of each part."""

    measured: Measured
    processor: dict[str, float]

    @property
    def cost(self) -> float:
        """Processor seconds per token."""
        return sum(self.processor.values()) / self.measured.tokens


Runner = Callable[[Workload, int], Run]


def processor_time(pids: list[int]) -> dict[str, float]:
    """Return the processor seconds of the processes so far, by part of the server."""
    seconds = dict.fromkeys((*PARTS.values(), REST), 0.0)
    for pid in pids:
        command, used = processor_seconds(pid)
        seconds[next((part for word, part in PARTS.items() if word in command), REST)] += used
    return seconds


def measure(connect: Callable[[], Client], pids: Callable[[], list[int]], workload: Workload, number: int) -> Run:
    """Run a workload once; `pids` returns the processes whose time counts."""
    before = processor_time(pids())
    measured = run([connect() for _ in range(workload.clients)], workload, number)
    after = processor_time(pids())
    return Run(measured, {part: after[part] - before[part] for part in after})


@contextmanager
def running_engine(settings: Settings) -> Iterator[Callable[[], Client]]:
    """An engine in this process; yields a function that connects a client to it."""
    answers = Answers()
    source = resolve_base_model(settings.base_model, settings.data_dir, progress=print)
    model = load_model(source, engine_config(settings), base_name=settings.base_model)
    engine = model.start_engine(answers, lambda error: print(f"The engine died: {error}"))
    try:
        yield lambda: EngineClient(model, engine, answers)
    finally:
        model.close()


@contextmanager
def running(settings: Settings) -> Iterator[tuple[Runner, Runner]]:
    """The server and the engine, each as a function that runs a workload."""
    server = SlmServer(settings.data_dir / "whole_path", settings.data_dir / "models", model=settings.base_model)
    with server.running(WARM_UP) as session, running_engine(settings) as connect:

        def server_pids() -> list[int]:
            return session.process.family()

        def own_pids() -> list[int]:
            return sorted(set(family(os.getpid())) - set(server_pids()))

        yield (
            lambda workload, number: measure(session.connect, server_pids, workload, number),
            lambda workload, number: measure(connect, own_pids, workload, number),
        )


def report(workload: Workload, path: list[Run], engine: list[Run]) -> str:
    """Return the lines of a workload."""
    walls = [one.measured.tokens_per_s / two.measured.tokens_per_s for one, two in zip(path, engine, strict=True)]
    costs = [two.cost / one.cost for one, two in zip(path, engine, strict=True)]
    tokens, requests = sum(one.measured.tokens for one in path), workload.requests * len(path)
    parts = {part: sum(one.processor[part] for one in path) for part in path[0].processor}
    shares = ", ".join(
        f"{part} {1e6 * seconds / tokens:.0f} us ({1e3 * seconds / requests:.1f} ms)" for part, seconds in parts.items()
    )
    alone = statistics.mean(one.cost for one in engine)
    rates = [statistics.median(one.measured.tokens_per_s for one in runs) for runs in (path, engine)]
    return (
        f"{workload.name}: {statistics.median(walls):.2f} of the engine's tokens/s "
        f"({rates[0]:.0f} and {rates[1]:.0f}), {statistics.median(costs):.2f} by processor time\n"
        f"    per token (per request): {shares}; the engine alone {1e6 * alone:.0f} us"
    )


def main() -> None:
    """Measure the workloads in turn and print the results."""
    parser = argparse.ArgumentParser(description="The whole path against its engine alone.")
    parser.add_argument("--workloads", default="W1,W8,W32")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each workload on each, in turn (default: 3)")
    parser.add_argument("--data-dir", type=Path, default=ROOT / "data")
    options = parser.parse_args()
    chosen = [one for one in WORKLOADS if one.name in options.workloads.split(",")]
    settings = Settings(
        data_dir=options.data_dir, device="cpu", threads=THREADS, max_num_seqs=MAX_NUM_SEQS, context=CONTEXT
    )
    with running(settings) as (path, engine):
        for one in (path, engine):
            one(WARM_UP, 0)
        for workload in chosen:
            numbers = range(1, options.repeat + 1)
            pairs = [(path(workload, number), engine(workload, number)) for number in numbers]
            print(report(workload, [one for one, _ in pairs], [two for _, two in pairs]), flush=True)


if __name__ == "__main__":
    main()
