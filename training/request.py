"""What a training run is given, what it reports while it runs, and what it returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from training.curve import Point
from training.recipe import Recipe

if TYPE_CHECKING:
    from training.data import Dataset

Method = Literal["supervised", "dpo"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """One training run.

    Attributes:
        base: the base model's folder.
        base_name: the name of the base model that the adapter and the model card name.
        dataset: the examples to train on.
        validation: held-out examples, only evaluated; None: no evaluation, and no early stopping.
        folder: the run's own folder, with its checkpoints and in the end the adapter. A run that finds whole
            checkpoints of the same request there continues from the last.
        device: `cpu`, or a torch device such as `cuda` or `cuda:1`.
        start_from: the folder of an adapter of the same base to continue training; None: a new one.
        threads: CPU threads; None: PyTorch's choice.
    """

    base: Path
    base_name: str
    dataset: Dataset
    validation: Dataset | None
    recipe: Recipe
    folder: Path
    seed: int = 0
    method: Method = "supervised"
    device: str = "cpu"
    start_from: Path | None = None
    threads: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress(Point):
    """The state of a run after a step.

    Attributes:
        steps: the steps of the whole run, if it does not stop early.
        tokens_per_s: since this process began to train.
        seconds_left: an estimate; None before the first step of this process.
    """

    steps: int
    tokens_per_s: float
    seconds_left: float | None


@dataclass(frozen=True, slots=True)
class Sample:
    """What the model being trained answers at a step, without sampling.

    Attributes:
        step: 0 is the untrained model.
        expected: the response in the dataset.
        trained: whether the model learns from this example; otherwise it is held out.
    """

    step: int
    prompt: str
    expected: str
    response: str
    trained: bool


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint that is complete on disk.

    Attributes:
        is_best: whether it has the lowest held-out loss so far.
    """

    step: int
    folder: Path
    is_best: bool


class RunEvents(Protocol):
    """Is told how a run goes, and may end it. Every method is called in the thread of `train`, between two steps."""

    def step(self, progress: Progress) -> None:
        """A step was taken. A run that continues from a checkpoint does not repeat the steps before it."""

    def sample(self, sample: Sample) -> None:
        """After each evaluation: a prompt and the model's answer, for an example that it learns and one held out."""

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        """A checkpoint was written."""

    def should_stop(self) -> bool:
        """Asked after each step. True: write a checkpoint and return a stopped `Result`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A run that has ended.

    Attributes:
        adapter: the folder with the adapter; None if the run was stopped and can continue.
        steps: steps taken, over all processes that worked on the run.
        best_step: the step that the adapter is from.
        curve: the points of all steps, over all processes, in order; step 0 is the untrained model.
        samples: what the model answered at the best step; empty if it was not evaluated there.
        tokens: trained, over all processes, padding excluded.
        left_out: examples longer than the limit.
        resumed_from: the step that this process continued from; None: from the beginning.
        seconds: of this process.
    """

    adapter: Path | None
    steps: int
    best_step: int
    curve: tuple[Point, ...]
    samples: tuple[Sample, ...]
    tokens: int
    left_out: int
    resumed_from: int | None
    seconds: float

    @property
    def held_out_losses(self) -> Mapping[int, float]:
        """The held-out loss by step, with that of the untrained model as step 0."""
        return {point.step: point.held_out_loss for point in self.curve if point.held_out_loss is not None}
