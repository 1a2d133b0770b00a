"""Measures the speed of the model runners alone: one step at a time, without scheduling, sampling or HTTP.

    python -m benchmarks.engine [--runners int8,fp32,torch,device] [--threads 2] [--loads 1x64,8x64,32x64,1x1000]

First it measures the limits of the machine: bytes read per second, and operations per second of fp32 matrix products
(torch) and of the native kernels on weights that stay in the cache. Then it measures for each runner a 1,000-token
prefill in chunks of 256, and a decode step under each load (batch x tokens of every sequence). All cases are measured
in turn, several times, because other programs use the machine too: the minimum shows the speed of the code, the median
the speed on this busy machine. CPU ms is the processor time of all threads together: with one thread, the time on an
idle machine.

GB/s counts the weights and the cached keys and values that a step reads; the next column is its share of the machine's
read rate. GOP/s counts two operations for every weight and token. All use the minimum time. `device` is the runner for
accelerators: in half precision on a GPU if there is one, else on the CPU, which only checks it.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from worker.engine.config import PREFILL_CHUNK, RunnerConfig
from worker.engine.device.runner import DeviceRunner
from worker.engine.kv_cache.budget import sequence_bytes
from worker.engine.loading.loader import choose_device, choose_dtype
from worker.engine.model_runner import ModelRunner, Row
from worker.engine.native.runner import NativeRunner
from worker.engine.runners.transformers.runner import TransformersRunner
from worker.engine.sequence import BASE_ADAPTER

ROOT = Path(__file__).resolve().parent.parent
PREFILL_TOKENS = 1000
STEPS_PER_ROUND = 8
READ_BYTES = 512 * 1024 * 1024  # far beyond any cache


@dataclass
class Case:
    """One runner under one load, with its own sequences."""

    runner_name: str
    runner: ModelRunner
    sequences: range
    context: int  # tokens of every sequence before the first step; 0: a prefill
    position: int = 0  # tokens of every sequence now
    times: list[float] = field(default_factory=list)  # s, of each step or prefill
    cpu_times: list[float] = field(default_factory=list)  # s, of all threads

    @property
    def load(self) -> str:
        """The name of the load."""
        return (
            f"decode, batch {len(self.sequences)}, context {self.context}"
            if self.context
            else "prefill of 1,000 tokens"
        )

    @property
    def tokens(self) -> int:
        """The number of tokens that one measured call computes."""
        return len(self.sequences) if self.context else PREFILL_TOKENS

    def run_round(self) -> None:
        """Measure some steps, or one prefill."""
        if not self.context:
            self._measure(lambda: _prefill(self.runner, self.sequences[0], PREFILL_TOKENS))
            return
        if not self.position:
            for sequence in self.sequences:
                _prefill(self.runner, sequence, self.context)
            self.position = self.context
        for _ in range(STEPS_PER_ROUND):
            self._measure(self._step)
            self.position += 1

    def _measure(self, work: Callable[[], None]) -> None:
        cpu_start = time.process_time()
        self.times.append(_timed(work))
        self.cpu_times.append(time.process_time() - cpu_start)

    def _step(self) -> None:
        token_ids = (self.position % 997,)
        logits = self.runner.forward(
            [_row(self.runner, sequence, token_ids, self.position, needs_logits=True) for sequence in self.sequences]
        )
        wait_for(logits.device)


def _prefill(runner: ModelRunner, sequence: int, length: int) -> None:
    """Prefill a sequence as the engine does, with logits after the last token."""
    for start in range(0, length, PREFILL_CHUNK):
        end = min(start + PREFILL_CHUNK, length)
        tokens = tuple((sequence + 7 * position) % 997 for position in range(start, end))
        wait_for(runner.forward([_row(runner, sequence, tokens, start, needs_logits=end == length)]).device)


def _row(runner: ModelRunner, sequence: int, token_ids: tuple[int, ...], start: int, *, needs_logits: bool) -> Row:
    """Return a row of a sequence with blocks for the whole context."""
    count = -(-runner.context_length // runner.block_tokens)
    blocks = tuple(range(sequence * count, (sequence + 1) * count))
    return Row(blocks, token_ids, start, BASE_ADAPTER, needs_logits=needs_logits)


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def wait_for(device: torch.device) -> None:
    """Wait until the device has finished its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def copy_rate(device: torch.device, num_bytes: int = READ_BYTES) -> float:
    """Return the bytes that the device reads and writes per second: the best of several copies within its memory."""
    source = torch.ones(num_bytes // 4, dtype=torch.int32, device=device)
    target = torch.empty_like(source)

    def copy() -> None:
        target.copy_(source)
        wait_for(device)

    return 2 * num_bytes / min(_timed(copy) for _ in range(9))


def measure_limits(threads: int, native: NativeRunner | None) -> float:
    """Print the machine's current limits, each the best of several tries; returns the bytes read per second."""
    for count in sorted({1, threads}):
        torch.set_num_threads(count)
        data = torch.ones(READ_BYTES // 8, dtype=torch.int64)
        read = READ_BYTES / min(_timed(data.sum) for _ in range(5))
        square = torch.ones(1024, 1024)
        product = 2 * 1024**3 / min(_timed(lambda square=square: square @ square) for _ in range(9))
        print(f"{count} thread(s): read {read / 1e9:.1f} GB/s, fp32 product (torch) {product / 1e9:.0f} GFLOP/s")
    if native is not None:
        print(
            f"{threads} thread(s): int8 kernels ({native.kernels}) in the cache {_kernel_rate(native) / 1e9:.0f} GOP/s"
        )
    return read


def _kernel_rate(runner: NativeRunner, num_rows: int = 192) -> float:
    """Return the operations per second for one matrix and many rows."""
    linear = runner.first_matrix
    x, y = torch.randn(num_rows, linear.columns), torch.empty(num_rows, linear.rows)
    best = min(_timed(lambda: runner.multiply(linear, x, y)) for _ in range(20))
    return 2 * num_rows * linear.rows * linear.columns / best


@dataclass(frozen=True)
class ModelSize:
    """The minimum work of a model's step."""

    body_weights: int  # multiplied for every token
    head_weights: int  # multiplied for every token that needs logits
    kv_numbers: int  # numbers cached per token

    @classmethod
    def of(cls, model: Any) -> ModelSize:
        """Return the sizes of a transformers model."""
        config = model.config
        embedding = model.get_input_embeddings().weight.numel()
        total = sum(parameter.numel() for parameter in model.parameters())
        num_tables = 1 if config.tie_word_embeddings else 2
        return cls(total - num_tables * embedding, embedding, sequence_bytes(config, num_tokens=1, item_bytes=1))

    def operations(self, case: Case) -> int:
        """Return the number of operations: two for every weight and token."""
        return 2 * (self.body_weights * case.tokens + self.head_weights * len(case.sequences))

    def bytes_read(self, case: Case) -> int | None:
        """Return the bytes that a decode step reads; None for a prefill, or if the size of the weights is unknown."""
        if not case.context or not isinstance(case.runner, NativeRunner | DeviceRunner):
            return None
        num_tokens = len(case.sequences) * case.context
        if isinstance(case.runner, NativeRunner):
            return case.runner.packed_bytes + num_tokens * case.runner.block_bytes // case.runner.block_tokens
        return case.runner.weight_bytes + num_tokens * self.kv_numbers * case.runner.item_bytes


def print_table(cases: list[Case], size: ModelSize, limits: dict[str, float]) -> None:
    """Print one line for each case; `limits` has the bytes per second by runner name."""
    print("| runner | load | ms min | ms median | CPU ms min | tokens/s | GB/s | of the limit | GOP/s |")
    print("|---|---|---|---|---|---|---|---|---|")
    for case in cases:
        best = min(case.times)
        read = size.bytes_read(case)
        limit = limits[case.runner_name]
        rate = "- | -" if read is None else f"{read / best / 1e9:.1f} | {read / best / limit:.0%}"
        print(
            f"| {case.runner_name} | {case.load} | {1e3 * best:.1f} | {1e3 * statistics.median(case.times):.1f} "
            f"| {1e3 * min(case.cpu_times):.1f} "
            f"| {case.tokens / best:.0f} | {rate} | {size.operations(case) / best / 1e9:.0f} |"
        )


def make_runner(name: str, model: Any, config: RunnerConfig, kernels: str | None) -> ModelRunner:
    """A runner by its name in `--runners`."""
    if name == "device":
        device, _ = choose_device("cuda" if torch.cuda.is_available() else "cpu")
        dtype, _ = choose_dtype("auto", device)
        runner = DeviceRunner(model.config, model.state_dict(), config, device=device, dtype=dtype)
        runner.warm_up()
        return runner
    if name == "torch":
        return TransformersRunner(model, config)
    return NativeRunner(model.config, model.state_dict(), config, precision=name, kernels=kernels)


def make_cases(runners: dict[str, ModelRunner], loads: list[tuple[int, ...]]) -> list[Case]:
    """Return the cases: every runner under every load, the runners in turn."""
    cases = [Case(name, runner, range(1), 0) for name, runner in runners.items()]
    first_sequence = 1
    for batch, context in loads:
        sequences = range(first_sequence, first_sequence + batch)
        cases += [Case(name, runner, sequences, context) for name, runner in runners.items()]
        first_sequence += batch
    return cases


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "data/models/SmolLM2-135M-Instruct")
    parser.add_argument("--runners", default="int8,fp32,torch")
    parser.add_argument("--kernels", default=None, help="native kernel set; default: the best one for this CPU")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--loads", default="1x64,8x64,32x64,1x1000", help="batch x context, comma-separated")
    parser.add_argument("--rounds", type=int, default=3, help="number of measurements of every case")
    parser.add_argument("--build-dir", type=Path, default=ROOT / "data/native")
    return parser.parse_args()


def main() -> None:
    """Create the runners, measure all cases in turn and print the results."""
    options = parse_arguments()
    loads = [tuple(map(int, load.split("x"))) for load in options.loads.split(",")]
    config = RunnerConfig(
        max_num_seqs=1 + sum(batch for batch, _ in loads),
        context_length=max(PREFILL_TOKENS, *(length for _, length in loads)) + STEPS_PER_ROUND * options.rounds,
        kv_bytes=None,
        num_threads=options.threads,
        build_dir=options.build_dir,
    )
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32).eval()
    runners = {name: make_runner(name, model, config, options.kernels) for name in options.runners.split(",")}
    read = measure_limits(options.threads, next((r for r in runners.values() if isinstance(r, NativeRunner)), None))
    limits = dict.fromkeys(runners, read)
    if "device" in runners and torch.cuda.is_available():
        limits["device"] = copy_rate(torch.device("cuda"))
        print(f"{torch.cuda.get_device_name()}: copy {limits['device'] / 1e9:.0f} GB/s")
    torch.set_num_threads(options.threads)
    cases = make_cases(runners, loads)
    for _ in range(options.rounds):
        for case in cases:
            case.run_round()
    print_table(cases, ModelSize.of(model), limits)


if __name__ == "__main__":
    main()
