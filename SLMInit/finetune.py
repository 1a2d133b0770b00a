"""Fine-tunes a base model on a dataset, from the options to the finished output folder."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from common.cores import usable_cores
from models.base_model import model_name, resolve_base_model
from models.errors import DatasetError, TrainingError
from SLMInit.console import Console
from SLMInit.defaults import read_settings
from SLMInit.options import TrainingOptions
from SLMInit.plot import draw_loss
from training.card import write_card
from training.checkpoints import Checkpoints
from training.data import Dataset, read_dataset, split
from training.gate import GateReport, compare
from training.recipe import Recipe
from training.request import Result, RunRequest
from training.run import train

MAX_THREADS = 16  # a small model gains nothing from more threads, and the rest of the machine stays usable
RUN_FOLDER = "run"  # in the output folder


@dataclass(frozen=True, slots=True)
class Outcome:
    """A finished training: its result, the gate's if it was asked, and whether the adapter was taken."""

    result: Result
    gate: GateReport | None
    is_taken: bool


def finetune(options: TrainingOptions, console: Console) -> Outcome:
    """Train an adapter, and write it with its card and a plot of the loss to `options.output`.

    The run is in `<output>/run`. A run that is interrupted, or refused by the gate, does not touch an earlier run's
    adapter, because servers on this machine serve what is in the output folder.

    Raises:
        FineTuningError: the dataset, base model or options are not usable; the text says what to do.
    """
    content = _read(options.data)
    request = _request(options, content)
    _begin(request.folder, is_continued=options.resume)
    _announce(request)
    result = train(request, console)
    gate = None if options.skip_gate else _judge(request, result, console)
    write_card(request, result, gate, hashlib.sha256(content).hexdigest())
    draw_loss(result.curve, result.best_step, f"{request.base_name} on {options.data.name}", _adapter(result))
    is_taken = gate is None or gate.passed or options.force
    if is_taken:
        shutil.copytree(_adapter(result), options.output, dirs_exist_ok=True)
    return Outcome(result, gate, is_taken)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as err:
        raise DatasetError(f"{file}: the dataset cannot be read: {err.strerror}.") from err


def _request(options: TrainingOptions, content: bytes) -> RunRequest:
    training, held_out = _data(options, content)
    name = options.base_model or read_settings().base_model
    base = resolve_base_model(name, options.data_dir or read_settings().data_dir, progress=print)
    return RunRequest(
        base=Path(base),
        base_name=model_name(name),
        dataset=training,
        validation=held_out,
        recipe=Recipe.for_dataset(training, options.recipe),
        folder=options.output / RUN_FOLDER,
        seed=options.seed,
        method="dpo" if training.is_preference else "supervised",
        device=options.device,
        threads=options.threads or min(usable_cores(), MAX_THREADS),
    )


def _data(options: TrainingOptions, content: bytes) -> tuple[Dataset, Dataset]:
    dataset = read_dataset(content, name=str(options.data))
    if options.validation is None:
        return split(dataset, options.seed)
    return dataset, read_dataset(_read(options.validation), name=str(options.validation))


def _begin(folder: Path, *, is_continued: bool) -> None:
    checkpoints = Checkpoints(folder / "checkpoints")
    if not is_continued:
        checkpoints.discard()
    elif checkpoints.last() is None:
        raise TrainingError(f"Nothing to resume: {folder} has no checkpoint. Start without --resume.")


def _announce(request: RunRequest) -> None:
    recipe = request.recipe
    print(f"{len(request.dataset)} examples to train on, {len(request.validation or ())} held out")
    print(
        f"LoRA of rank {recipe.rank} on all linear layers, {recipe.epochs:g} epochs in batches of {recipe.batch_size}, "
        f"learning rate {recipe.learning_rate:g}",
        flush=True,
    )


def _judge(request: RunRequest, result: Result, console: Console) -> GateReport:
    held_out = request.validation or request.dataset
    report = compare(
        request.base, _adapter(result), None, request.dataset, held_out, (), console, device=request.device
    )
    console.gate(report)
    return report


def _adapter(result: Result) -> Path:
    if result.adapter is None:
        raise TrainingError("The run was stopped.")
    return result.adapter
