"""The speed that `slm jobs watch` shows."""

from __future__ import annotations

from slm.rate import Rate


def test_too_little_time_says_nothing() -> None:
    rate = Rate()
    assert rate.per_s is None
    for step in range(20):
        rate.note(step / 100)
    assert rate.per_s is None


def test_the_rate_is_of_the_last_seconds() -> None:
    rate = Rate()
    for _ in range(500):
        rate.note(0.0)  # what the stream repeats at its beginning
    for step in range(1, 81):
        rate.note(step / 10)
    assert rate.per_s is not None
    assert abs(rate.per_s - 10) < 1e-6
