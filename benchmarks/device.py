"""Tests and measures the device runner on this machine's GPU: decode steps compared with the memory's speed.

    python -m benchmarks.device [--batches 1,64] [--context 256] [--steps 200] [--skip-tests] [--random]
    python -m benchmarks.device --adapter-rank 16   # also with LoRA adapters

First come the tests that need the device. Then for each model (the default one, and a random one of GPT-2's size) come
the check of the results that every load makes, the time to capture the CUDA graphs, and the decode steps: a chain in
which each step takes its tokens from the samples of the previous one and nothing is fetched before the end, as in the
engine. The steps are measured with and without graphs.

The limit is the time to read all weights and the cached keys and values once, at the measured rate of a large copy
within the device's memory. Host ms is the time to launch a step: if it is longer than the step, the device waits for
the host. With `--adapter-rank` the steps are measured with LoRA adapters of all linear layers, too: one for all rows,
and a different one for each row. Without a GPU everything runs on the CPU, which only checks this program.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, GPT2Config

from benchmarks.engine import ROOT, ModelSize, add_adapters, copy_rate, wait_for
from common.jobs.sampling import SamplingParams
from worker.engine.config import RunnerConfig
from worker.engine.device.graphs import PlainSteps, StepCapture
from worker.engine.device.runner import DeviceRunner
from worker.engine.loading.pretrained import choose_device, choose_dtype
from worker.engine.model_runner import Row
from worker.engine.runners.check import RunnerCheck
from worker.engine.sampling.sampler import Sampler
from worker.engine.sequence import BASE_ADAPTER, Sequence

TESTS = "tests/kernels"


class Chain:
    """Sequences that decode together, greedily.

    Args:
        runner: a runner that nothing else uses.
        batch: the number of sequences.
        context: the initial number of tokens of each sequence.
        adapters: of the sequences, in turn.
    """

    def __init__(
        self, runner: DeviceRunner, batch: int, context: int, adapters: tuple[str, ...] = (BASE_ADAPTER,)
    ) -> None:
        self._runner = runner
        self._adapters = adapters
        self._sampler = Sampler()
        self._sequences = [
            Sequence(str(index), [1], SamplingParams(seed=0, temperature=0.0, max_new_tokens=1 << 20))
            for index in range(batch)
        ]
        self._position = context
        for index in range(batch):
            tokens = tuple((index + 7 * position) % 997 for position in range(context))
            runner.forward([self._row(index, tokens, 0, needs_logits=False)])
        rows = [self._row(index, (index,), context) for index in range(batch)]
        self.samples = self._sampler.start(runner.forward(rows), self._sequences)

    def step(self) -> None:
        """Launch one more step."""
        self._position += 1
        rows = [self._row(index, (0,), self._position, source=index) for index in range(len(self._sequences))]
        self.samples = self._sampler.start(self._runner.forward(rows, self.samples.tokens), self._sequences)

    def _row(
        self,
        index: int,
        token_ids: tuple[int, ...],
        start: int,
        *,
        needs_logits: bool = True,
        source: int | None = None,
    ) -> Row:
        """Return a row of a sequence with blocks for the whole context."""
        count = -(-self._runner.context_length // self._runner.block_tokens)
        blocks = tuple(range(index * count, (index + 1) * count))
        adapter = self._adapters[index % len(self._adapters)]
        return Row(blocks, token_ids, start, adapter, needs_logits=needs_logits, source=source)


def measure(chain: Chain, steps: int, device: torch.device) -> tuple[float, float]:
    """Return the seconds per step, and the seconds that the host needs to launch one."""
    for _ in range(min(8, steps)):
        chain.step()
    chain.samples.fetch()
    start = time.perf_counter()
    for _ in range(steps):
        chain.step()
    launched = time.perf_counter()
    wait_for(device)
    return (time.perf_counter() - start) / steps, (launched - start) / steps


def make_runner(
    model: Any, options: argparse.Namespace, max_num_seqs: int, capturer: StepCapture | None = None
) -> DeviceRunner:
    """Return a runner for sequences as long as the chains become."""
    config = RunnerConfig(
        max_num_seqs=max_num_seqs,
        context_length=options.context + options.steps + 16,
        kv_bytes=None,
        num_threads=torch.get_num_threads(),
        build_dir=ROOT / "data/native",
    )
    return DeviceRunner(
        model.config, model.state_dict(), config, device=model.device, dtype=model.dtype, capturer=capturer
    )


def measure_model(name: str, model: Any, options: argparse.Namespace, rate: float) -> None:
    """Check and measure one model; print a line for each batch."""
    batches = [int(batch) for batch in options.batches.split(",")]
    runner = make_runner(model, options, max(batches))
    RunnerCheck(model).check(runner)
    start = time.perf_counter()
    runner.warm_up()
    print(f"{name} in {model.dtype}: results equal the model's; graphs captured in {time.perf_counter() - start:.1f} s")
    size = ModelSize.of(model)
    plain = make_runner(model, options, max(batches), PlainSteps())
    print("| batch | ms | host ms | tokens/s | limit ms | of the limit | ms without graphs |")
    print("|---|---|---|---|---|---|---|")
    for batch in batches:
        seconds, host = measure(Chain(runner, batch, options.context), options.steps, model.device)
        without, _ = measure(Chain(plain, batch, options.context), options.steps, model.device)
        mean_context = options.context + options.steps / 2
        limit = (runner.weight_bytes + batch * mean_context * size.kv_numbers * runner.item_bytes) / rate
        print(
            f"| {batch} | {1e3 * seconds:.3f} | {1e3 * host:.3f} | {batch / seconds:.0f} | {1e3 * limit:.3f} "
            f"| {limit / seconds:.0%} | {1e3 * without:.3f} |"
        )
    if options.adapter_rank:
        measure_adapters(runner, model, batches, options)


def measure_adapters(runner: DeviceRunner, model: Any, batches: list[int], options: argparse.Namespace) -> None:
    """Print the milliseconds per step without adapters, with one, and with a different one for each row."""
    ids = tuple(f"adapter {index}" for index in range(max(batches)))
    start = time.perf_counter()
    add_adapters(runner, model, options.adapter_rank, ids)
    print(f"{len(ids)} adapters of rank {options.adapter_rank} added in {time.perf_counter() - start:.1f} s")
    print("| batch | ms, base | one adapter | all different |")
    print("|---|---|---|---|")
    for batch in batches:
        chains = [Chain(runner, batch, options.context, chosen) for chosen in ((BASE_ADAPTER,), ids[:1], ids[:batch])]
        times = [measure(chain, options.steps, model.device)[0] for chain in chains]
        print(f"| {batch} | {' | '.join(f'{1e3 * one:.3f}' for one in times)} |")


def default_model(options: argparse.Namespace) -> Any:
    """Return the model of `--model`, or a random one of its size."""
    if options.random:
        return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(options.model))
    return AutoModelForCausalLM.from_pretrained(options.model)


def random_gpt2() -> Any:
    """Return a model of GPT-2's size with random weights."""
    return AutoModelForCausalLM.from_config(GPT2Config())


def parse_arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=ROOT / "data/models/SmolLM2-135M-Instruct")
    parser.add_argument("--batches", default="1,64")
    parser.add_argument("--context", type=int, default=256, help="tokens of each sequence before the first step")
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--skip-tests", action="store_true")
    parser.add_argument("--adapter-rank", type=int, default=0, help="measure adapters of this rank, too; 0: none")
    parser.add_argument("--random", action="store_true", help="read only the model's sizes and use random weights")
    return parser.parse_args()


def main() -> None:
    """Test, check, measure and print."""
    options = parse_arguments()
    if not options.skip_tests:
        subprocess.run([sys.executable, "-m", "pytest", "-q", TESTS], cwd=ROOT, check=True)
    device, _ = choose_device("cuda" if torch.cuda.is_available() else "cpu")
    dtype, _ = choose_dtype("auto", device)
    rate = copy_rate(device)
    name = torch.cuda.get_device_name() if device.type == "cuda" else "no GPU: the CPU"
    print(f"{name}, torch {torch.__version__}: copy {rate / 1e9:.0f} GB/s")
    models: dict[str, Callable[[], Any]] = {
        options.model.name: lambda: default_model(options),
        "random model of GPT-2's size": random_gpt2,
    }
    for model_name, make_model in models.items():
        model = make_model().to(device, dtype).eval().requires_grad_(requires_grad=False)
        measure_model(model_name, model, options, rate)


if __name__ == "__main__":
    main()
