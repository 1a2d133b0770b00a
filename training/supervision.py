"""Supervises one run: prepares it, begins or continues it, and puts the adapter together in the end."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerState, set_seed

from common.content import ContentHashes
from models.adapter.check import WEIGHTS_FILE
from models.adapter.config import CONFIG_FILE
from models.errors import DatasetError
from models.text.saved_template import TEMPLATE_FILE
from training.anchor import Anchor
from training.base import Base, load_weights, read_base
from training.checkpoints import STATE_FILE, Checkpoints, move_whole, write_whole
from training.curve import Choice, Point, points
from training.data import Dataset
from training.general import general_sequences
from training.lora import load_adapter, new_adapter
from training.quiet import without_deprecations
from training.reporter import Reporter
from training.request import Progress, Result, RunEvents, RunRequest
from training.rows import TrainerRow, trainer_rows
from training.samples import Sampler, read_samples
from training.trainers import Setup, build_trainer

# These may change when a run is continued, for example to train it longer; all else makes it another run.
FREE = {"epochs", "max_steps", "learning_rate", "patience", "evaluations", "save_steps"}


@dataclass(frozen=True, slots=True)
class _Rows:
    """The encoded data."""

    train: list[TrainerRow]
    held_out: list[TrainerRow]
    left_out: int


def supervise(request: RunRequest, events: RunEvents) -> Result:
    """Begin or continue a run, as `training.run.train` says."""
    began = time.monotonic()
    if request.threads is not None:
        torch.set_num_threads(request.threads)
    base = read_base(str(request.base), request.base_name)
    rows = _encode(request, base)
    checkpoints = Checkpoints(request.folder / "checkpoints")
    checkpoints.begin(_identity(request))
    state = _read_state(checkpoints.last())
    resumed_from = state.global_step or None
    state.max_steps = request.recipe.steps(len(rows.train))
    if not _is_over(state, _choice(request, rows), checkpoints):
        with without_deprecations():
            state = _train(request, base, rows, checkpoints, events)
    return _result(request, base, rows, checkpoints, state, resumed_from, seconds=time.monotonic() - began)


def _encode(request: RunRequest, base: Base) -> _Rows:
    encoder, limit = base.encoder(request.start_from), base.limit(request.recipe.max_length)
    train, left_out = trainer_rows(request.dataset, encoder, limit)
    if not train:
        raise DatasetError(f"Every example is longer than {limit} tokens (max_length): nothing to train on.")
    held_out, _ = trainer_rows(request.validation, encoder, limit) if request.validation else ([], 0)
    return _Rows(train, held_out, left_out)


def _train(request: RunRequest, base: Base, rows: _Rows, checkpoints: Checkpoints, events: RunEvents) -> TrainerState:
    """Train from the last checkpoint, or from the beginning, until the run is over or stopped."""
    model = _adapted(request, base)
    setup = Setup(
        method=request.method,
        recipe=request.recipe,
        train=rows.train,
        held_out=rows.held_out,
        tokenizer=base.tokenizer,
        checkpoints=checkpoints.unfinished,
        seed=request.seed,
        device=request.device,
        anchor=_anchor(request, base),
    )
    trainer = build_trainer(model, setup)
    last, sampler = checkpoints.last(), Sampler(request, base, checkpoints.folder)
    if last is None and rows.held_out:
        _evaluate_before(trainer, sampler, checkpoints, events, request.recipe.steps(len(rows.train)))
    before = _read_before(checkpoints)
    choice = _choice(request, rows)
    ask = partial(sampler.ask, model)
    trainer.add_callback(Reporter(request.recipe, checkpoints, events, choice, before, ask))
    set_seed(request.seed)  # so that the evaluation has no influence
    trainer.train(resume_from_checkpoint=str(last) if last else None)
    state: TrainerState = trainer.state
    return state


def _anchor(request: RunRequest, base: Base) -> Anchor | None:
    """Return what holds the model to the base. Preference pairs need none: DPO does that itself."""
    weight = request.recipe.anchor
    if request.method != "supervised" or not weight:
        return None
    sequences = general_sequences(base.encoder(request.start_from), base.limit(request.recipe.max_length))
    return Anchor(sequences, weight, request.seed) if sequences else None


def _choice(request: RunRequest, rows: _Rows) -> Choice:
    return Choice(len(rows.held_out), request.recipe.patience)


def _is_over(state: TrainerState, choice: Choice, checkpoints: Checkpoints) -> bool:
    """Return whether a run has ended, by its steps or because it stopped improving."""
    if not state.log_history:
        return False
    return state.global_step >= state.max_steps or choice.has_stopped_improving(_curve(state, checkpoints))


def _curve(state: TrainerState, checkpoints: Checkpoints) -> list[Point]:
    return [*_read_before(checkpoints), *points(state.log_history)]


def _adapted(request: RunRequest, base: Base) -> Any:
    model = load_weights(base, request.device)
    if request.start_from is not None:
        return load_adapter(model, base, request.start_from, is_trainable=True)
    return new_adapter(model, base, request.recipe, request.seed)


def _evaluate_before(trainer: Any, sampler: Sampler, checkpoints: Checkpoints, events: RunEvents, steps: int) -> None:
    """Measure and ask the untrained model; its point is kept beside the checkpoints."""
    trainer.evaluate()
    point = [*points(trainer.state.log_history)][-1]
    write_whole(_before_file(checkpoints), asdict(point))
    events.step(Progress(**asdict(point), steps=steps, tokens_per_s=0.0, seconds_left=None))
    for sample in sampler.ask(trainer.model, 0):
        events.sample(sample)


def _result(
    request: RunRequest,
    base: Base,
    rows: _Rows,
    checkpoints: Checkpoints,
    state: TrainerState,
    resumed_from: int | None,
    *,
    seconds: float,
) -> Result:
    choice, curve = _choice(request, rows), _curve(state, checkpoints)
    best = choice.best_step(curve)
    adapter = None
    if _is_over(state, choice, checkpoints):
        adapter = _put_together(checkpoints.of(best), base.template(request.start_from), request.folder)
    return Result(
        adapter=adapter,
        steps=state.global_step,
        best_step=best,
        curve=tuple(curve),
        samples=tuple(read_samples(checkpoints.folder, best)),
        tokens=state.num_input_tokens_seen,
        left_out=rows.left_out,
        resumed_from=resumed_from,
        seconds=round(seconds, 1),
    )


def _put_together(checkpoint: Path, template: str, folder: Path) -> Path:
    """Make the adapter's folder out of a checkpoint: its weights, and the template that it was trained with."""
    draft, place = folder / ".adapter", folder / "adapter"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        shutil.copy(checkpoint / name, draft / name)
    (draft / TEMPLATE_FILE).write_text(template, encoding="utf-8")
    move_whole(draft, place)
    return place


def _before_file(checkpoints: Checkpoints) -> Path:
    return checkpoints.folder / "before.json"


def _read_before(checkpoints: Checkpoints) -> list[Point]:
    file = _before_file(checkpoints)
    return [Point(**json.loads(file.read_text(encoding="utf-8")))] if file.is_file() else []


def _read_state(checkpoint: Path | None) -> TrainerState:
    return TrainerState.load_from_json(str(checkpoint / STATE_FILE)) if checkpoint else TrainerState()


def _identity(request: RunRequest) -> Mapping[str, Any]:
    """Return what must be the same for a run to be continued."""
    return {
        "base": request.base_name,
        "method": request.method,
        "data": _fingerprint(request.dataset),
        "validation": request.validation and _fingerprint(request.validation),
        "start_from": request.start_from and ContentHashes().of_folder(request.start_from),
        "seed": request.seed,
        **request.recipe.model_dump(exclude=FREE),
    }


def _fingerprint(dataset: Dataset) -> str:
    return hashlib.sha256(repr(dataset.examples).encode()).hexdigest()
