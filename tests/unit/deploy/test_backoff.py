from __future__ import annotations

from deploy.processes.backoff import Backoff


def test_the_pause_doubles_with_each_death_in_a_row_up_to_a_maximum() -> None:
    backoff = Backoff(first_s=1, most_s=5, well_after_s=60)
    assert [backoff.after_run_of(0.1) for _ in range(5)] == [1, 2, 4, 5, 5]


def test_a_long_run_resets_the_pauses() -> None:
    backoff = Backoff(first_s=1, most_s=5, well_after_s=60)
    pauses = [backoff.after_run_of(ran_s) for ran_s in (0.1, 0.1, 60, 0.1)]
    assert pauses == [1, 2, 1, 2]
