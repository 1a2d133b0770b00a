"""Speed of the model runners alone: one step at a time, without scheduling, sampling or HTTP.

    python -m benchmarks.engine [--runners int8,fp32,torch] [--threads 2] [--batches 1,8,32] [--contexts 64,1000]

First the limits of the machine, measured now: bytes read per second, and operations per second of fp32 matrix products
(torch) and of the native kernels on weights that stay in the cache. Then for each runner, batch and context the time of
a decode step, and the time of a 1,000-token prefill in chunks of 256. All cases are measured in turn, several times
over, because other programs use the machine too: the minimum says what the code can do, the median what it did.

GB/s counts the packed weights and the cached keys and values that a step reads; GOP/s counts two operations for every
weight and token.
"""

from __future__ import annotations

import argparse
import ctypes
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from worker.engine.model_runner import ModelRunner, Row
from worker.engine.native.runner import NativeRunner
from worker.engine.sequence import BASE_ADAPTER
from worker.engine.transformers_runner import TransformersRunner

ROOT = Path(__file__).resolve().parent.parent
PREFILL_TOKENS = 1000
PREFILL_CHUNK = 256
STEPS_PER_ROUND = 8
READ_BYTES = 512 * 1024 * 1024  # far beyond any cache


@dataclass
class Case:
    """One runner under one load."""

    runner_name: str
    runner: ModelRunner
    batch: int
    context: int  # tokens in every slot before the step; 0: a prefill
    times: list[float] = field(default_factory=list)  # s, of each step or prefill

    @property
    def tokens(self) -> int:
        """Tokens that one measured call computes."""
        return self.batch if self.context else PREFILL_TOKENS

    def run_round(self) -> None:
        """Measure some steps, or one prefill."""
        if not self.context:
            self.times.append(_timed(lambda: _prefill(self.runner, 0, PREFILL_TOKENS)))
            return
        for slot in range(self.batch):
            _prefill(self.runner, slot, self.context)
        for position in range(self.context, self.context + STEPS_PER_ROUND):
            rows = [
                Row(slot, (position % 997,), position, BASE_ADAPTER, needs_logits=True) for slot in range(self.batch)
            ]
            self.times.append(_timed(lambda rows=rows: self.runner.forward(rows)))


def _prefill(runner: ModelRunner, slot: int, length: int) -> None:
    """Fill a slot as the engine does; logits after the last token."""
    for start in range(0, length, PREFILL_CHUNK):
        end = min(start + PREFILL_CHUNK, length)
        tokens = tuple((slot + 7 * position) % 997 for position in range(start, end))
        runner.forward([Row(slot, tokens, start, BASE_ADAPTER, needs_logits=end == length)])


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure_limits(threads: int, native: NativeRunner | None) -> None:
    """Print what the machine gives at this moment, the best of some tries."""
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


def _kernel_rate(runner: NativeRunner, num_rows: int = 192) -> float:
    """Operations per second of one matrix and many rows."""
    linear = runner.first_matrix
    x, y = torch.randn(num_rows, linear.columns), torch.empty(num_rows, linear.rows)
    best = min(_timed(lambda: runner.multiply(linear, x, y)) for _ in range(20))
    return 2 * num_rows * linear.rows * linear.columns / best


def print_table(cases: list[Case], weights: int, kv_bytes_per_token: int) -> None:
    """One line for each case."""
    print("| runner | load | ms min | ms median | tokens/s (min) | GB/s | GOP/s |")
    print("|---|---|---|---|---|---|---|")
    for case in cases:
        best = min(case.times)
        load = f"decode, batch {case.batch}, context {case.context}" if case.context else f"prefill {PREFILL_TOKENS}"
        read = "-"
        if isinstance(case.runner, NativeRunner) and case.context:
            read = f"{(case.runner.packed_bytes + case.batch * case.context * kv_bytes_per_token) / best / 1e9:.1f}"
        print(
            f"| {case.runner_name} | {load} | {1e3 * best:.1f} | {1e3 * statistics.median(case.times):.1f} "
            f"| {case.tokens / best:.0f} | {read} | {2 * weights * case.tokens / best / 1e9:.0f} |"
        )


def make_runner(name: str, model: Any, options: argparse.Namespace, num_slots: int, context: int) -> ModelRunner:
    """A runner by its name in `--runners`."""
    if name == "torch":
        return TransformersRunner(model, num_slots=num_slots, context_length=context, num_threads=options.threads)
    return NativeRunner(
        model.config,
        model.state_dict(),
        num_slots=num_slots,
        context_length=context,
        precision=name,
        threads=options.threads,
        build_dir=options.build_dir,
        kernels=options.kernels,
    )


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "data/models/SmolLM2-135M-Instruct")
    parser.add_argument("--runners", default="int8,fp32,torch")
    parser.add_argument("--kernels", default=None, help="native kernel set; default: the best of this CPU")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batches", default="1,8,32")
    parser.add_argument("--contexts", default="64,1000")
    parser.add_argument("--rounds", type=int, default=3, help="how often every case is measured")
    parser.add_argument("--build-dir", type=Path, default=ROOT / "data/native")
    return parser.parse_args()


def main() -> None:
    """Make the runners, measure all cases in turn, print."""
    options = parse_arguments()
    batches = [int(number) for number in options.batches.split(",")]
    contexts = [int(number) for number in options.contexts.split(",")]
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32).eval()
    context = max(PREFILL_TOKENS, *contexts) + STEPS_PER_ROUND
    runners = {name: make_runner(name, model, options, max(batches), context) for name in options.runners.split(",")}
    measure_limits(options.threads, next((r for r in runners.values() if isinstance(r, NativeRunner)), None))
    torch.set_num_threads(options.threads)
    cases = [Case(name, runner, 1, 0) for name, runner in runners.items()]
    cases += [
        Case(name, runner, batch, length)
        for length in contexts
        for batch in batches
        for name, runner in runners.items()
    ]
    for _ in range(options.rounds):
        for case in cases:
            case.run_round()
    config = model.config
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    kv_heads = getattr(config, "num_key_value_heads", config.num_attention_heads)
    kv_bytes = 2 * ctypes.sizeof(ctypes.c_float) * config.num_hidden_layers * kv_heads * head_size
    print_table(cases, sum(parameter.numel() for parameter in model.parameters()), kv_bytes)


if __name__ == "__main__":
    main()
