"""The options of a training run, from the command line or a caller of `finetune`."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Device = Literal["cpu", "cuda"]

FOLDER = Path(__file__).resolve().parent
DEFAULT_DATA = FOLDER / "data" / "instructions.jsonl"
OUTPUT = {"cpu": FOLDER / "cpu_lora_out", "cuda": FOLDER / "cuda_lora_out"}
MAX_RANK = 256
MAX_LENGTH = {"cpu": 256, "cuda": 1024}  # tokens per pair


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingOptions:
    """The options of one training run. If `base_model` or `data_dir` is None, the server's setting applies."""

    device: Device
    output: Path
    max_length: int  # tokens per pair, prompt and response together
    data: Path = DEFAULT_DATA
    base_model: str | None = None
    data_dir: Path | None = None
    epochs: float = 3.0
    max_steps: int | None = None  # ends the run even if `epochs` are not complete
    batch_size: int = 4
    learning_rate: float = 2e-3
    rank: int = 8
    alpha: int = 16
    save_steps: int = 20
    threads: int | None = None
    seed: int = 0
    resume: bool = False


def parse_options(device: Device, argv: Sequence[str]) -> TrainingOptions:
    """Parse the command line of a training script; exits with a usage message if it is not valid."""
    return TrainingOptions(device=device, **vars(_parser(device).parse_args(argv)))


def default_options(device: Device) -> TrainingOptions:
    """Return the options of the device's script without arguments."""
    return TrainingOptions(device=device, output=OUTPUT[device], max_length=MAX_LENGTH[device])


def _parser(device: Device) -> argparse.ArgumentParser:
    default = default_options(device)
    script = {"cpu": "cudaInit_cpu.py", "cuda": "cudaInit.py"}[device]
    parser = argparse.ArgumentParser(
        prog=script,
        description=f"Fine-tune a small language model with LoRA on the {device.upper()}.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--data", type=Path, default=default.data, help='JSONL file with one {"instruction", "response"} per line')
    add(
        "--base-model",
        help="built-in name, folder, GGUF file or hub id; None: SLM_BASE_MODEL or the built-in default",
    )
    add(
        "--output", type=Path, default=default.output, help="folder for the adapter, checkpoints, loss plot and summary"
    )
    add("--epochs", type=_positive_number, default=default.epochs, help="passes over the data")
    add("--max-steps", type=_whole(1), help="stop after this many steps, even if --epochs asks for more")
    add("--batch-size", type=_whole(1), default=default.batch_size, help="pairs per step")
    add("--learning-rate", type=_positive_number, default=default.learning_rate, help="peak learning rate")
    add("--rank", type=_whole(1, MAX_RANK), default=default.rank, help="LoRA rank, the size of the adapter")
    add("--alpha", type=_whole(1), default=default.alpha, help="LoRA alpha; the adapter is scaled by alpha / rank")
    add(
        "--max-length",
        type=_whole(8),
        default=default.max_length,
        help="maximum tokens of a pair; longer pairs are skipped",
    )
    add("--save-steps", type=_whole(1), default=default.save_steps, help="steps between checkpoints")
    add("--threads", type=_whole(1), help="CPU threads; None: all available cores")
    add(
        "--seed",
        type=_whole(0),
        default=default.seed,
        help="seed for the held-out pairs, the order and the initial weights",
    )
    add("--resume", action="store_true", help="continue from the last checkpoint in the output folder")
    add("--data-dir", type=Path, help="folder with models/; None: SLM_DATA_DIR or the project's data/")
    return parser


def _whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """Return an argparse type: a whole number from `least` to `most`."""

    def whole_number(text: str) -> int:
        value = int(text)
        if value < least or (most is not None and value > most):
            bounds = f"at least {least}" if most is None else f"from {least} to {most}"
            raise argparse.ArgumentTypeError(f"{text} is not {bounds}")
        return value

    return whole_number


def _positive_number(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not greater than 0")
    return value
