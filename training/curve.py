"""Reads a run's curve from the trainer's log, which its checkpoints carry from process to process."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from models.errors import TrainingError

_ACCURACY = ("mean_token_accuracy", "rewards/accuracies")  # of SFT and of DPO; DPO logs both, and the second counts

Log = Mapping[str, Any]

CHANCE = 0.5  # nats: about how far the losses of single examples lie apart


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One step of a run. A loss is the mean cross-entropy per response token, in nats (`dpo`: TRL's loss per pair).

    Attributes:
        step: the steps taken, from 1; the untrained model is step 0.
        epoch: passes over the data.
        loss: of this step's batch; None at step 0.
        accuracy: share of response tokens that were the model's first choice (`dpo`: of pairs ranked right).
        held_out_loss: if the held-out examples were evaluated after this step.
        held_out_accuracy: likewise.
        tokens: trained so far, padding excluded.
    """

    step: int
    epoch: float
    loss: float | None
    accuracy: float | None
    learning_rate: float
    held_out_loss: float | None
    held_out_accuracy: float | None
    tokens: int

    def to_json(self) -> dict[str, Any]:
        """Return the fields that have a value."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


def points(log: Iterable[Log]) -> Iterator[Point]:
    """Yield the points of all logged steps, in order.

    Raises:
        TrainingError: a loss is not a finite number.
    """
    by_step: dict[int, dict[str, Any]] = {}
    for row in log:
        by_step.setdefault(int(row["step"]), {}).update(row)
    for step, row in sorted(by_step.items()):
        if "loss" in row or "eval_loss" in row:
            yield _point(step, row)


@dataclass(frozen=True, slots=True)
class Choice:
    """Which step is kept, and when a run no longer improves.

    The loss of few held-out examples moves by chance: two of them cannot tell that step 20 is better than step 40. So
    of the steps as good as the best, up to a tolerance, the last one is kept. The tolerance shrinks with the number
    of examples, and is at most half of what training has gained.

    Attributes:
        examples: held out.
        patience: evaluations that are not as good as the best, after which the run ends; 0: it goes on.
    """

    examples: int
    patience: int

    def best_step(self, curve: Sequence[Point]) -> int:
        """Return the last trained step that is as good as the best; the last step if nothing was held out."""
        losses = _held_out(curve)
        bound = self._bound(curve)
        return max((step for step, loss in losses if loss <= bound), default=curve[-1].step)

    def has_stopped_improving(self, curve: Sequence[Point]) -> bool:
        """Return whether the last evaluations have all not been as good as the best."""
        recent = _held_out(curve)[-self.patience :] if self.patience else []
        return 0 < self.patience == len(recent) and min(loss for _, loss in recent) > self._bound(curve)

    def _bound(self, curve: Sequence[Point]) -> float:
        """Return the highest loss that is as good as the best."""
        best = min((loss for _, loss in _held_out(curve)), default=0.0)
        before = curve[0].held_out_loss if curve[0].step == 0 else None
        chance = CHANCE / math.sqrt(max(1, self.examples))
        return best + (chance if before is None else min(chance, max(0.0, (before - best) / 2)))


def _held_out(curve: Sequence[Point]) -> list[tuple[int, float]]:
    """Return the trained steps that were evaluated, with their held-out loss."""
    return [(point.step, point.held_out_loss) for point in curve if point.step > 0 and point.held_out_loss is not None]


def _point(step: int, row: Log) -> Point:
    return Point(
        step=step,
        epoch=float(row.get("epoch", 0.0)),
        loss=_finite(step, row.get("loss")),
        accuracy=_accuracy(row, ""),
        learning_rate=float(row.get("learning_rate", 0.0)),
        held_out_loss=_finite(step, row.get("eval_loss")),
        held_out_accuracy=_accuracy(row, "eval_"),
        tokens=int(row.get("num_input_tokens_seen", 0)),
    )


def _accuracy(row: Log, prefix: str) -> float | None:
    found = [float(row[prefix + name]) for name in _ACCURACY if prefix + name in row]
    return found[-1] if found else None


def _finite(step: int, value: Any) -> float | None:
    if value is not None and not math.isfinite(value):
        raise TrainingError(f"The loss of step {step} is {value}: the training diverges. Use a lower learning rate.")
    return None if value is None else float(value)
