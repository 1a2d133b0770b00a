from __future__ import annotations

import math

import pytest

from models.errors import TrainingError
from training.curve import best_step, has_stopped_improving, points

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


def test_the_best_step_has_the_lowest_held_out_loss() -> None:
    assert best_step([*points(evaluated(3.0, 2.0, 2.5))]) == 2
    assert best_step([*points(LOG[:2])]) == 2, "without evaluations, the last"


def test_a_run_stops_improving_when_no_recent_evaluation_is_the_best() -> None:
    curve = [*points(evaluated(3.0, 2.0, 2.5, 2.0))]
    assert has_stopped_improving(curve, 2)
    assert not has_stopped_improving(curve, 3)
    assert not has_stopped_improving(curve, 0), "never"
    assert not has_stopped_improving([*points(evaluated(3.0))], 1)
