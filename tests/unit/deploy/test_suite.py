from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from common.settings import ROOT
from deploy.suite import QUICK, run_suite

Run = Callable[[Sequence[str]], int]


def report(arguments: Sequence[str], tests: int, failures: int = 0, errors: int = 0, skipped: int = 0) -> None:
    [path] = [one.removeprefix("--junit-xml=") for one in arguments if one.startswith("--junit-xml=")]
    counts = f'tests="{tests}" failures="{failures}" errors="{errors}" skipped="{skipped}"'
    Path(path).write_text(f"<testsuites><testsuite {counts} /></testsuites>")


class Pytest:
    """Ends its runs with these statuses."""

    def __init__(self, *statuses: int) -> None:
        self.runs: list[list[str]] = []
        self._statuses = list(statuses)

    def __call__(self, arguments: Sequence[str]) -> int:
        self.runs.append(list(arguments))
        status = self._statuses.pop(0)
        report(arguments, tests=10, failures=int(status == 1), skipped=2)
        return status


def closing_line(run: Run) -> tuple[int, str]:
    said: list[str] = []
    return run_suite(run, said.append), said[-1]


def test_the_closing_line_counts_both_runs() -> None:
    assert closing_line(Pytest(0, 0)) == (0, "16 passed, 0 failed, 4 skipped")


@pytest.mark.parametrize("statuses", [(1, 0), (0, 1)])
def test_a_failure_in_either_run_fails_the_suite(statuses: tuple[int, int]) -> None:
    assert closing_line(Pytest(*statuses)) == (1, "15 passed, 1 failed, 4 skipped")


def test_an_aborted_run_counts_as_a_failure() -> None:
    assert closing_line(lambda _: 137) == (137, "0 passed, 2 failed, 0 skipped")


def test_an_error_in_a_fixture_is_a_failure() -> None:
    def run(arguments: Sequence[str]) -> int:
        report(arguments, tests=3, errors=1)
        return 1

    assert closing_line(run) == (1, "4 passed, 2 failed, 0 skipped")


@pytest.mark.parametrize("status", [2, 130, 143])
def test_after_ctrl_c_nothing_more_runs(status: int) -> None:
    run = Pytest(status, 0)
    assert run_suite(run, lambda _: None) == status
    assert len(run.runs) == 1


def test_every_test_is_in_exactly_one_of_the_runs() -> None:
    run = Pytest(0, 0)
    run_suite(run, lambda _: None)
    quick, others = run.runs
    assert [one for one in quick if one.startswith("tests/")] == QUICK
    assert [one.removeprefix("--ignore=") for one in others if one.startswith("--ignore=")] == QUICK
    assert [layer for layer in QUICK if not (ROOT / layer).is_dir()] == []
