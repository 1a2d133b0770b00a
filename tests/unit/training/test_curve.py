from __future__ import annotations

import math

import pytest

from models.errors import TrainingError
from training.curve import Choice, Point, points

LOG = [
    {
        "step": 1,
        "epoch": 0.5,
        "loss": 3.0,
        "mean_token_accuracy": 0.25,
        "learning_rate": 0.1,
        "num_input_tokens_seen": 7,
    },
    {
        "step": 2,
        "epoch": 1.0,
        "loss": 2.0,
        "mean_token_accuracy": 0.5,
        "learning_rate": 0.2,
        "num_input_tokens_seen": 9,
    },
    {"step": 2, "epoch": 1.0, "eval_loss": 2.5, "eval_mean_token_accuracy": 0.4},
    {"step": 2, "epoch": 1.0, "train_runtime": 3.0},
]


def evaluated(*losses: float) -> list[dict[str, float]]:
    return [{"step": step, "eval_loss": loss} for step, loss in enumerate(losses, start=1)]


def test_a_step_and_its_evaluation_are_one_point() -> None:
    first, second = points(LOG)
    assert (first.step, first.loss, first.held_out_loss, first.tokens) == (1, 3.0, None, 7)
    assert (second.loss, second.held_out_loss, second.accuracy, second.held_out_accuracy) == (2.0, 2.5, 0.5, 0.4)
    assert "held_out_loss" not in first.to_json()
    assert second.to_json()["held_out_loss"] == 2.5


def test_the_accuracy_of_preference_pairs_counts_pairs() -> None:
    (point,) = points([{"step": 1, "loss": 0.6, "mean_token_accuracy": 0.2, "rewards/accuracies": 0.75}])
    assert point.accuracy == 0.75


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_no_number_ends_the_run(bad: float) -> None:
    with pytest.raises(TrainingError, match=r"step 3 is .*: the training diverges. Use a lower"):
        list(points([{"step": 3, "loss": bad}]))


def curve(*losses: float, before: float | None = None) -> list[Point]:
    first = [] if before is None else [{"step": 0, "eval_loss": before}]
    return [*points([*first, *evaluated(*losses)])]


MANY, FEW = Choice(examples=10_000, patience=2), Choice(examples=4, patience=2)


def test_with_many_held_out_examples_the_best_step_has_the_lowest_loss() -> None:
    assert MANY.best_step(curve(3.0, 2.0, 2.1)) == 2


def test_with_few_held_out_examples_the_last_step_that_is_about_as_good_is_kept() -> None:
    assert FEW.best_step(curve(3.0, 2.0, 2.1, 2.2, 2.3)) == 4, "the tolerance is 0.5 / sqrt(4)"


def test_the_tolerance_is_at_most_half_of_what_training_has_gained() -> None:
    assert FEW.best_step(curve(2.0, 2.04, 2.06, before=2.1)) == 2
    assert FEW.best_step(curve(2.2, 2.3, before=2.1)) == 1, "nothing was gained"


def test_without_held_out_examples_the_last_step_is_kept() -> None:
    assert Choice(0, 3).best_step([*points(LOG[:2])]) == 2


def test_a_run_stops_improving_when_no_recent_evaluation_is_as_good_as_the_best() -> None:
    assert MANY.has_stopped_improving(curve(3.0, 2.0, 2.5, 2.4))
    assert not MANY.has_stopped_improving(curve(3.0, 2.0, 2.5, 2.001))
    assert not FEW.has_stopped_improving(curve(3.0, 2.0, 2.2, 2.1))
    assert not Choice(10_000, 0).has_stopped_improving(curve(3.0, 2.0, 2.5, 2.4)), "never"
    assert not MANY.has_stopped_improving(curve(3.0))
