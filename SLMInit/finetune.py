"""Fine-tunes a base model with LoRA on an instruction dataset, from the options to the finished output folder."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoTokenizer

from common.cores import usable_cores
from models.base_model import model_name, resolve_base_model
from models.context import declared_context
from models.errors import BaseModelError, DatasetError, TrainingError
from models.text.prompt_template import INSTRUCTION_TEMPLATE
from SLMInit.checkpoints import Checkpoints
from SLMInit.dataset import read_pairs, split
from SLMInit.defaults import read_settings
from SLMInit.encoding import Row, encode
from SLMInit.lora_model import describe_lora, load_lora_model
from SLMInit.options import TrainingOptions
from SLMInit.report import Summary, draw_loss, package_versions, write_summary
from SLMInit.trainer import LoraTrainer, build_trainer

Progress = Callable[[str], None]

MAX_THREADS = 16  # a small model gains nothing from more threads, and the rest of the machine stays usable

# A run can only resume from a checkpoint with the same values: they determine the adapter or the order of the data.
FIXED_BY_CHECKPOINT = ("rank", "alpha", "batch_size", "max_length", "seed")
HYPERPARAMETERS = (*FIXED_BY_CHECKPOINT, "learning_rate", "epochs", "max_steps")


@dataclass(frozen=True, slots=True)
class _Base:
    """A base model, ready to be loaded."""

    name: str  # the name recorded in its adapters
    source: str  # folder or hub id for from_pretrained
    tokenizer: Any  # with the training prompt as its chat template
    context: int | None  # tokens; None: no known limit


@dataclass(frozen=True, slots=True)
class _Data:
    """The encoded dataset."""

    train: Sequence[Row]
    held_out: Sequence[Row]
    left_out: int
    sha256: str


@dataclass(frozen=True, slots=True)
class _Result:
    """A finished training."""

    trainer: LoraTrainer
    resumed_from: Path | None
    loss_before: float
    loss_after: float

    @property
    def history(self) -> list[dict[str, float]]:
        """The Trainer's log plus the evaluation before the first step, which the Trainer does not log."""
        return [{"step": 0, "eval_loss": self.loss_before}, *self.trainer.state.log_history]


def finetune(options: TrainingOptions, *, progress: Progress) -> Summary:
    """Train an adapter and write it with its tokenizer, `summary.json` and `loss.png` to `options.output`.

    Checkpoints are written to `<output>/checkpoints` during the run; the adapter is written at the end, so an
    interrupted run does not touch an earlier run's adapter.

    Raises:
        FineTuningError: the dataset, base model or options are not usable; the text says what to do.
    """
    started = time.monotonic()
    torch.set_num_threads(options.threads or min(usable_cores(), MAX_THREADS))
    base = _prepare_base(options, progress)
    data = _prepare_data(options, base, progress)
    checkpoints = Checkpoints(options.output / "checkpoints")
    checkpoint = _start(checkpoints, options, base, data)
    result = _train(options, base, data, checkpoints.folder, checkpoint, progress)
    result.trainer.save_model(str(options.output))
    base.tokenizer.save_pretrained(options.output)
    summary = _summarise(options, base, data, result, duration_s=time.monotonic() - started)
    write_summary(summary, options.output)
    draw_loss(result.history, summary, options.output)
    return summary


def _prepare_base(options: TrainingOptions, progress: Progress) -> _Base:
    name = options.base_model or read_settings().base_model
    source = resolve_base_model(name, options.data_dir or read_settings().data_dir, progress=progress)
    try:
        config = AutoConfig.from_pretrained(source)
        tokenizer = AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError) as err:
        raise BaseModelError(f"Base model {name!r}: its config or tokenizer cannot be loaded: {err}") from err
    if tokenizer.eos_token_id is None:
        raise TrainingError(f"Base model {name!r}: its tokenizer has no end-of-text token to end a response with.")
    tokenizer.chat_template = INSTRUCTION_TEMPLATE
    return _Base(model_name(name), source, tokenizer, declared_context(config))


def _prepare_data(options: TrainingOptions, base: _Base, progress: Progress) -> _Data:
    pairs = read_pairs(options.data)
    limit = min(options.max_length, base.context or options.max_length)
    train, held_out = (encode(part, base.tokenizer, limit) for part in split(pairs, options.seed))
    left_out = len(pairs) - len(train) - len(held_out)
    if not train or not held_out:
        raise DatasetError(
            f"{options.data}: {left_out} of {len(pairs)} pairs are longer than {limit} tokens (--max-length), which "
            "leaves too few pairs to train on and to test with."
        )
    progress(f"{len(train)} pairs to train on, {len(held_out)} held out, {left_out} skipped (over {limit} tokens)")
    return _Data(train, held_out, left_out, hashlib.sha256(options.data.read_bytes()).hexdigest())


def _start(checkpoints: Checkpoints, options: TrainingOptions, base: _Base, data: _Data) -> Path | None:
    """Return the checkpoint to resume from, or None for a new run."""
    identity = {"base model": base.name, "data": data.sha256} | {
        name: getattr(options, name) for name in FIXED_BY_CHECKPOINT
    }
    if options.resume:
        return checkpoints.resume(identity)
    checkpoints.begin(identity)
    return None


def _train(
    options: TrainingOptions, base: _Base, data: _Data, folder: Path, checkpoint: Path | None, progress: Progress
) -> _Result:
    model = load_lora_model(base.source, base.name, options)
    progress(describe_lora(model))
    trainer = build_trainer(model, options, folder, data.train, data.held_out, base.tokenizer.eos_token_id)
    before = _evaluate(trainer)
    progress(f"Evaluation loss before: {before:.3f}")
    if checkpoint:
        progress(f"Continuing from {checkpoint.name}")
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    after = _evaluate(trainer)
    progress(f"Evaluation loss after:  {after:.3f}")
    return _Result(trainer, checkpoint, before, after)


def _evaluate(trainer: LoraTrainer) -> float:
    """Return the loss on the held-out pairs; taken from the trainer's log if the run ended with an evaluation."""
    last = trainer.state.log_history[-2:]
    for row in last:
        if "eval_loss" in row and row["step"] == trainer.state.global_step > 0:
            return float(row["eval_loss"])
    return float(trainer.evaluate()["eval_loss"])


def _summarise(options: TrainingOptions, base: _Base, data: _Data, result: _Result, *, duration_s: float) -> Summary:
    state = result.trainer.state
    return Summary(
        base_model=base.name,
        device=options.device,
        data=options.data.name,
        data_sha256=data.sha256,
        pairs_trained=len(data.train),
        pairs_held_out=len(data.held_out),
        pairs_left_out=data.left_out,
        steps=state.global_step,
        epochs=round(state.epoch or 0.0, 2),
        resumed_from=result.resumed_from.name if result.resumed_from else None,
        eval_loss_before=round(result.loss_before, 4),
        eval_loss_after=round(result.loss_after, 4),
        duration_s=round(duration_s, 1),
        options={name: getattr(options, name) for name in HYPERPARAMETERS},
        versions=package_versions(),
    )
