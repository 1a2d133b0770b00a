from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pytest

from common.settings import ROOT
from deploy.suite import WAITING, Start, run_suite


def report(arguments: Sequence[str], tests: int, failures: int = 0, errors: int = 0, skipped: int = 0) -> None:
    [path] = [one.removeprefix("--junit-xml=") for one in arguments if one.startswith("--junit-xml=")]
    counts = f'tests="{tests}" failures="{failures}" errors="{errors}" skipped="{skipped}"'
    Path(path).write_text(f"<testsuites><testsuite {counts} /></testsuites>")


@dataclass(frozen=True)
class Ended:
    """A process with this exit status."""

    status: int

    def wait(self) -> int:
        return self.status


class Pytest:
    """Starts runs that end with these statuses."""

    def __init__(self, *statuses: int) -> None:
        self.runs: list[list[str]] = []
        self._statuses = list(statuses)

    def __call__(self, arguments: Sequence[str], output: BinaryIO | None = None) -> Ended:
        self.runs.append(list(arguments))
        status = self._statuses.pop(0)
        report(arguments, tests=10, failures=int(status == 1), skipped=2)
        if output is not None:
            output.write(b"what the background printed")
        return Ended(status)


def said(start: Start) -> tuple[int, list[str]]:
    lines: list[str] = []
    return run_suite(start, lines.append), lines


def test_the_output_of_the_background_and_the_counts_of_both_runs_come_last() -> None:
    assert said(Pytest(0, 0)) == (0, ["what the background printed", "16 passed, 0 failed, 4 skipped"])


@pytest.mark.parametrize("statuses", [(1, 0), (0, 1)])
def test_a_failure_in_either_run_fails_the_suite(statuses: tuple[int, int]) -> None:
    status, lines = said(Pytest(*statuses))
    assert (status, lines[-1]) == (1, "15 passed, 1 failed, 4 skipped")


def test_an_aborted_run_counts_as_a_failure() -> None:
    status, lines = said(lambda *_: Ended(-9))
    assert (status, lines[-1]) == (137, "0 passed, 2 failed, 0 skipped")


def test_an_error_in_a_fixture_is_a_failure() -> None:
    def start(arguments: Sequence[str], _output: BinaryIO | None = None) -> Ended:
        report(arguments, tests=3, errors=1)
        return Ended(1)

    status, lines = said(start)
    assert (status, lines[-1]) == (1, "4 passed, 2 failed, 0 skipped")


@pytest.mark.parametrize("status", [2, 130, 143, -2, -15])
def test_a_ctrl_c_is_told_from_a_failure(status: int) -> None:
    assert run_suite(Pytest(1, status), lambda _: None) == (status if status > 0 else 128 - status)


def test_every_test_is_in_exactly_one_of_the_runs() -> None:
    start = Pytest(0, 0)
    run_suite(start, lambda _: None)
    computing, waiting = start.runs
    assert [one for one in waiting if one.startswith("tests/")] == WAITING
    assert [one.removeprefix("--ignore=") for one in computing if one.startswith("--ignore=")] == WAITING
    assert [layer for layer in WAITING if not (ROOT / layer).is_dir()] == []
