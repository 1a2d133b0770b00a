"""Which steps' tokens are sent together."""

from __future__ import annotations

import pytest

from worker.jobs.pace import Pace


def sendings(step_s: float, window_s: float, num_steps: int) -> list[list[int]]:
    """Return which steps' tokens are sent together, at which steps of equal length."""
    pace, sent, waiting = Pace(window_s), list[list[int]](), list[int]()
    for number in range(num_steps):
        now = number * step_s
        pace.note_step(now)
        waiting.append(number)
        if pace.due_in_s(now) <= 0:
            pace.note_sending(now)
            sent.append(waiting)
            waiting = []
    return sent


@pytest.mark.parametrize(
    ("step_s", "together"),
    [
        pytest.param(0.05, 1, id="slow-steps"),
        pytest.param(0.011, 1, id="the-next-would-be-late"),
        pytest.param(0.007, 2, id="two"),
        pytest.param(0.001, 19, id="many"),
    ],
)
def test_tokens_are_sent_with_those_of_the_last_step_in_the_window(step_s: float, together: int) -> None:
    sizes = [len(numbers) for numbers in sendings(step_s, 0.0199, 100)]
    assert set(sizes[2:-1]) == {together}


def test_tokens_wait_only_until_the_end_of_the_window_if_a_step_takes_longer_than_the_last() -> None:
    pace = Pace(0.02)
    for at in (10.0, 10.005):
        pace.note_step(at)
    pace.note_sending(10.006)
    pace.note_step(10.010)
    assert pace.due_in_s(10.010) == pytest.approx(0.016)
    assert pace.due_in_s(10.027) < 0


def test_the_first_step_of_all_does_not_wait() -> None:
    pace = Pace(0.02)
    pace.note_step(1000.0)
    assert pace.due_in_s(1000.0) <= 0
