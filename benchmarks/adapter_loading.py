"""Measures how the loading of adapters slows the generations that run meanwhile: no queue, no HTTP.

    python -m benchmarks.adapter_loading [--threads 2] [--rounds 3] [--rank 16]

The pauses between the tokens of 8 sequences of the bare base model, undisturbed, and while adapters on all linear
layers are loaded one after another, as at their first use: read, checked, packed, added between two steps.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors.torch import save_file

from benchmarks.sharing import NEIGHBOUR_TOKENS, NEIGHBOURS, Clock, sequence, tokens
from common.settings import Settings
from models.base_model import model_name, resolve_base_model
from worker.engine.engine import Engine
from worker.engine.loading.loader import EngineModel, load_model
from worker.helper.priority import give_way_in_this_thread
from worker.model.loader import engine_config

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def save_adapter(folder: Path, shapes: dict[str, tuple[int, ...]], rank: int, seed: int) -> None:
    """Save a random adapter on all linear layers."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, shape in shapes.items():
        module = name.removesuffix(".weight")
        if module.endswith(TARGETS):
            key = f"base_model.model.{module}"
            weights[f"{key}.lora_A.weight"] = torch.randn(rank, shape[1], generator=generator) * 0.02
            weights[f"{key}.lora_B.weight"] = torch.randn(shape[0], rank, generator=generator) * 0.02
    folder.mkdir()
    save_file(weights, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "target_modules": list(TARGETS)}
    (folder / "adapter_config.json").write_text(json.dumps(config))


@contextmanager
def loading(model: EngineModel, folders: list[Path]) -> Iterator[list[float]]:
    """Load and remove the adapters on another thread for the duration of a `with` block; yield the loads' seconds."""
    seconds: list[float] = []
    stopping = threading.Event()

    def load() -> None:
        give_way_in_this_thread()
        for number, folder in enumerate(folders * 1000):
            if stopping.is_set():
                return
            begin = time.perf_counter()
            adapter = model.load_adapter(f"{folder.name}-{number}", folder)
            seconds.append(time.perf_counter() - begin)
            adapter.close()

    thread = threading.Thread(target=load)
    thread.start()
    try:
        yield seconds
    finally:
        stopping.set()
        thread.join()


def pauses(engine: Engine, clock: Clock, kind: str) -> list[float]:
    """Return the pauses of some sequences, in seconds, sorted."""
    names = [f"{kind}-{index}" for index in range(NEIGHBOURS)]
    for index, name in enumerate(names):
        engine.submit(sequence(name, tokens(30_000 + index, 8), NEIGHBOUR_TOKENS))
    clock.wait(*names)
    return sorted(pause for name in names for pause in clock.pauses(name))


def report(label: str, found: list[float]) -> float:
    """Print the pauses; return their 95th percentile."""
    p95 = statistics.quantiles(found, n=20)[-1]
    print(
        f"{label}: median {statistics.median(found) * 1e3:.1f}, p95 {p95 * 1e3:.1f}, longest {found[-1] * 1e3:.1f} ms"
    )
    return p95


def main() -> None:
    """Measure and print the results."""
    parser = argparse.ArgumentParser(description="How the loading of adapters slows the other generations.")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rank", type=int, default=16)
    args = parser.parse_args()
    settings, clock = Settings(device="cpu", threads=args.threads), Clock()
    source = resolve_base_model(settings.base_model, settings.data_dir, progress=print)
    model = load_model(source, engine_config(settings), base_name=model_name(settings.base_model))
    with tempfile.TemporaryDirectory() as scratch:
        folders = [Path(scratch) / f"adapter-{number}" for number in range(4)]
        for number, folder in enumerate(folders):
            save_adapter(folder, model.shapes, args.rank, number)
        engine = model.start_engine(clock, lambda error: print(f"The engine died: {error}"))
        for number in range(args.rounds):
            calm = report("undisturbed", pauses(engine, clock, f"calm{number}"))
            with loading(model, folders) as seconds:
                disturbed = report("while adapters load", pauses(engine, clock, f"disturbed{number}"))
            print(f"p95 ratio {disturbed / calm:.2f}; {len(seconds)} loads of {statistics.median(seconds):.2f} s each")
        model.close()


if __name__ == "__main__":
    main()
