"""The options of a training run, from the command line or a caller of `finetune`."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Device = Literal["cpu", "cuda"]

FOLDER = Path(__file__).resolve().parent
DEFAULT_DATA = FOLDER / "data" / "instructions.jsonl"
OUTPUT = {"cpu": FOLDER / "cpu_lora_out", "cuda": FOLDER / "cuda_lora_out"}
MAX_RANK = 256
RECIPE = (
    *("epochs", "max_steps", "batch_size", "learning_rate", "rank", "alpha", "dropout", "max_length", "save_steps"),
    "patience",
)
"""The options that are fields of a recipe."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingOptions:
    """The options of one training run.

    What is None follows from the dataset (`training.recipe`), or from the server's settings (`base_model`, `data_dir`).
    """

    device: Device
    output: Path
    data: Path = DEFAULT_DATA
    validation: Path | None = None
    base_model: str | None = None
    data_dir: Path | None = None
    epochs: float | None = None
    max_steps: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    rank: int | None = None
    alpha: int | None = None
    dropout: float | None = None
    max_length: int | None = None
    save_steps: int | None = None
    patience: int | None = None
    threads: int | None = None
    seed: int = 0
    resume: bool = False
    skip_gate: bool = False
    publish: str | None = None
    force: bool = False

    @property
    def recipe(self) -> dict[str, Any]:
        """The values for `Recipe.for_dataset`; None for those that were not given."""
        return {name: getattr(self, name) for name in RECIPE}


def parse_options(device: Device, argv: Sequence[str]) -> TrainingOptions:
    """Parse the command line of a training script; exits with a usage message if it is not valid."""
    return TrainingOptions(device=device, **vars(_parser(device).parse_args(argv)))


def default_options(device: Device) -> TrainingOptions:
    """Return the options of the device's script without arguments."""
    return TrainingOptions(device=device, output=OUTPUT[device])


def _parser(device: Device) -> argparse.ArgumentParser:
    script, place = {"cpu": ("cudaInit_cpu.py", "the CPU"), "cuda": ("cudaInit.py", "a CUDA GPU")}[device]
    parser = argparse.ArgumentParser(
        prog=script,
        description=f"Fine-tune a small language model with LoRA on {place}. "
        "What you do not set follows from the size of the dataset.",
    )
    _add_files(parser, default_options(device))
    _add_recipe(parser)
    _add_run(parser)
    return parser


def _add_files(parser: argparse.ArgumentParser, default: TrainingOptions) -> None:
    add = parser.add_argument
    add("--data", type=Path, default=default.data, help="the dataset: JSONL, JSON or CSV (default: %(default)s)")
    add("--validation", type=Path, help="a dataset held out for the evaluation (default: a tenth of --data)")
    add(
        "--base-model", help="built-in name, folder, GGUF file or hub id (default: SLM_BASE_MODEL, or the built-in one)"
    )
    add(
        "--output",
        type=Path,
        default=default.output,
        help="folder for the adapter, its card, the loss plot and the checkpoints (default: %(default)s)",
    )
    add("--data-dir", type=Path, help="folder with models/ (default: SLM_DATA_DIR, or the project's data/)")


def _add_recipe(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--epochs", type=_positive_number, help="passes over the data")
    add("--max-steps", type=_whole(1), help="stop after this many steps, even if --epochs asks for more")
    add("--batch-size", type=_whole(1), help="examples per step")
    add("--learning-rate", type=_positive_number, help="peak learning rate")
    add("--rank", type=_whole(1, MAX_RANK), help="LoRA rank, the size of the adapter")
    add("--alpha", type=_whole(1), help="LoRA alpha; the adapter is scaled by alpha / rank")
    add("--dropout", type=_share, help="share of the inputs of the LoRA matrices left out while training")
    add("--max-length", type=_whole(8), help="maximum tokens of an example; longer examples are left out")
    add("--save-steps", type=_whole(1), help="steps between checkpoints (default: a minute)")
    add("--patience", type=_whole(0), help="evaluations without improvement before an early stop; 0: never")


def _add_run(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--threads", type=_whole(1), help="CPU threads (default: all available cores)")
    add(
        "--seed",
        type=_whole(0),
        default=0,
        help="seed for the held-out examples, the order and the initial weights (default: 0)",
    )
    add("--resume", action="store_true", help="continue from the last checkpoint in the output folder")
    add("--skip-gate", action="store_true", help="do not compare the result with the base model")
    add("--publish", metavar="NAME", help="publish to a running server under this name, if the gate passes")
    add("--force", action="store_true", help="publish even if the gate refuses")


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


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not from 0 to below 1")
    return value
