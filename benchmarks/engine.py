"""Measures the speed of the model runners alone: one step at a time, without scheduling, sampling or HTTP.

    python -m benchmarks.engine [--runners int8,fp32,torch,device] [--threads 2] [--loads 1x64,8x64,32x64,1x1000]
    python -m benchmarks.engine --runners int8 --adapter-rank 16   # also with LoRA adapters
    python -m benchmarks.engine --runners int8,int8+kv8 --loads 1x448,8x448,32x900   # keys and values in 8 bits

First it measures the limits of the machine: bytes read per second, and operations per second of fp32 matrix products
(torch) and of the native kernels on weights that stay in the cache. Then it measures for each runner a 1,000-token
prefill in chunks of 256, and a decode step under each load (batch x tokens of every sequence). All cases are measured
in turn, several times, because other programs use the machine too: the minimum shows the speed of the code, the median
the speed on this busy machine. CPU ms is the processor time of all threads together: with one thread, the time on an
idle machine.

GB/s counts the weights and the cached keys and values that a step reads; the next column is its share of the machine's
read rate. GOP/s counts two operations for every weight and token. All use the minimum time. `device` is the runner for
accelerators: in half precision on a GPU if there is one, else on the CPU, which only checks it.

With `--adapter-rank` every case is measured with adapters of all linear layers, too: one for all rows, and a different
one for each. A second table has the speed relative to the bare base: the ratio of the median times, and the median of
the ratios of rounds that followed each other, which other programs affect less.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from benchmarks.native_formats import pack_native
from worker.engine.config import PREFILL_CHUNK, RunnerConfig
from worker.engine.device.runner import DeviceRunner
from worker.engine.kv_cache.budget import sequence_bytes
from worker.engine.loading.pretrained import choose_device, choose_dtype
from worker.engine.lora import AdapterWeights, LoraMatrices
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
    adapters: tuple[str, ...] = (BASE_ADAPTER,)  # of the sequences, in turn
    position: int = 0  # tokens of every sequence now
    times: list[float] = field(default_factory=list)  # s, of each step or prefill
    cpu_times: list[float] = field(default_factory=list)  # s, of all threads

    @property
    def load(self) -> str:
        """The name of the load."""
        name = (
            f"decode, batch {len(self.sequences)}, context {self.context}"
            if self.context
            else "prefill of 1,000 tokens"
        )
        if self.adapters == (BASE_ADAPTER,):
            return name
        return f"{name}, {'one adapter' if len(self.adapters) == 1 else f'{len(self.adapters)} adapters'}"

    def adapter_of(self, sequence: int) -> str:
        """The adapter of one of the sequences."""
        return self.adapters[(sequence - self.sequences[0]) % len(self.adapters)]

    @property
    def tokens(self) -> int:
        """The number of tokens that one measured call computes."""
        return len(self.sequences) if self.context else PREFILL_TOKENS

    def run_round(self) -> None:
        """Measure some steps, or one prefill."""
        if not self.context:
            self._measure(lambda: _prefill(self.runner, self.sequences[0], PREFILL_TOKENS, self.adapters[0]))
            return
        if not self.position:
            for sequence in self.sequences:
                _prefill(self.runner, sequence, self.context, self.adapter_of(sequence))
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
            [
                _row(self.runner, sequence, token_ids, self.position, self.adapter_of(sequence), needs_logits=True)
                for sequence in self.sequences
            ]
        )
        wait_for(torch.as_tensor(logits).device)


def _prefill(runner: ModelRunner, sequence: int, length: int, adapter: str) -> None:
    """Prefill a sequence as the engine does, with logits after the last token."""
    for start in range(0, length, PREFILL_CHUNK):
        end = min(start + PREFILL_CHUNK, length)
        tokens = tuple((sequence + 7 * position) % 997 for position in range(start, end))
        logits = runner.forward([_row(runner, sequence, tokens, start, adapter, needs_logits=end == length)])
        wait_for(torch.as_tensor(logits).device)


def _row(
    runner: ModelRunner, sequence: int, token_ids: tuple[int, ...], start: int, adapter: str, *, needs_logits: bool
) -> Row:
    """Return a row of a sequence with blocks for the whole context."""
    count = -(-runner.context_length // runner.block_tokens)
    blocks = tuple(range(sequence * count, (sequence + 1) * count))
    return Row(blocks, token_ids, start, adapter, needs_logits=needs_logits)


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
    return pack_native(name, model, config, kernels)


def make_cases(runners: dict[str, ModelRunner], loads: list[tuple[int, ...]]) -> list[Case]:
    """Return the cases: every runner under every load, the runners in turn."""
    cases = [Case(name, runner, range(1), 0) for name, runner in runners.items()]
    first_sequence = 1
    for batch, context in loads:
        sequences = range(first_sequence, first_sequence + batch)
        cases += [Case(name, runner, sequences, context) for name, runner in runners.items()]
        first_sequence += batch
    return cases


def random_adapter(model: Any, rank: int, seed: int) -> AdapterWeights:
    """Return an adapter of all linear layers except the head, as `target_modules="all-linear"` has in peft."""
    generator = torch.Generator().manual_seed(seed)
    layers = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not model.get_output_embeddings()
    }
    return AdapterWeights(
        {
            name: LoraMatrices(
                0.02 * torch.randn(rank, layer.in_features, generator=generator),
                0.02 * torch.randn(layer.out_features, rank, generator=generator),
            )
            for name, layer in layers.items()
        },
        {},
    )


def add_adapters(runner: ModelRunner, model: Any, rank: int, ids: tuple[str, ...]) -> None:
    """Add different random adapters to a runner."""
    for seed, adapter_id in enumerate(ids):
        runner.add_adapter(adapter_id, runner.prepare_adapter(random_adapter(model, rank, seed)))


def with_adapters(cases: list[Case], ids: tuple[str, ...]) -> list[tuple[Case, list[Case]]]:
    """Return every case with those that have its load and adapters: one for all rows, and one for each row."""
    pairs: list[tuple[Case, list[Case]]] = []
    for case in cases:
        count = len(case.sequences)
        choices = [ids[:1]] if count == 1 else [ids[:1], ids[:count]]
        pairs.append((case, [replace(case, adapters=chosen, times=[], cpu_times=[]) for chosen in choices]))
    return pairs


def print_ratios(pairs: list[tuple[Case, list[Case]]]) -> None:
    """Print the speed with adapters relative to the bare base."""
    print("\n| runner | load | ms median, base | with adapters | speed, of the medians | of neighbouring rounds |")
    print("|---|---|---|---|---|---|")
    for base, adapted in pairs:
        for case in adapted:
            medians = statistics.median(base.times), statistics.median(case.times)
            size = STEPS_PER_ROUND if case.context else 1
            rounds = [range(first, first + size) for first in range(0, len(case.times), size)]
            ratios = [sum(base.times[i] for i in one) / sum(case.times[i] for i in one) for one in rounds]
            print(
                f"| {case.runner_name} | {case.load} | {1e3 * medians[0]:.2f} | {1e3 * medians[1]:.2f} "
                f"| {medians[0] / medians[1]:.2f} | {statistics.median(ratios):.2f} |"
            )


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "data/models/SmolLM2-135M-Instruct")
    parser.add_argument("--runners", default="int8,fp32,torch")
    parser.add_argument("--kernels", default=None, help="native kernel set; default: the best one for this CPU")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--loads", default="1x64,8x64,32x64,1x1000", help="batch x context, comma-separated")
    parser.add_argument("--adapter-rank", type=int, default=0, help="measure adapters of this rank, too; 0: none")
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
    pairs: list[tuple[Case, list[Case]]] = []
    if options.adapter_rank:
        ids = tuple(f"adapter {index}" for index in range(max(batch for batch, _ in loads)))
        for runner in runners.values():
            add_adapters(runner, model, options.adapter_rank, ids)
        pairs = with_adapters(cases, ids)
        cases = [case for base, adapted in pairs for case in (base, *adapted)]
    for _ in range(options.rounds):
        for case in cases:
            case.run_round()
    print_table(cases, ModelSize.of(model), limits)
    if pairs:
        print_ratios(pairs)


if __name__ == "__main__":
    main()
