"""Runs the whole test suite in two runs of pytest at once: the tests that wait for processes, and those that compute.

Tests of the first kind leave the cores idle for half of their time. Those of the second kind fill it, at a lower
priority. Standard library only.
"""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
import xml.etree.ElementTree as ET  # only reads files written by pytest
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from deploy.bootstrap import ROOT

# Those with the longest tests first, so that no long one is left for the end.
WAITING = [f"tests/{layer}" for layer in ("faults", "integration", "browser", "foreign", "clients", "process")]
GIB_OF_A_TEST = 3  # one that starts servers with a model
ON_EVERY_CORE = ("-n", "logical", "--dist", "worksteal")
LOW_PRIORITY = ("nice", "-n", "5")
INTERRUPTED = (2, 128 + signal.SIGINT, 128 + signal.SIGTERM)  # a Ctrl-C, noticed by pytest or too early for that


class Child(Protocol):
    """A process, as in `subprocess`."""

    def wait(self) -> int:
        """Wait for its end, and return its exit status, or minus the signal that ended it."""
        ...


class Start(Protocol):
    """Starts pytest."""

    def __call__(self, arguments: Sequence[str], output: BinaryIO | None = None) -> Child:
        """Start a run. If it is in the background, `output` is the file that it prints to, except for failures."""
        ...


@dataclass(frozen=True)
class Counts:
    """The numbers of tests by outcome; an error in a fixture counts as a failure."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.passed + other.passed, self.failed + other.failed, self.skipped + other.skipped)

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped"


def run_suite(start: Start, say: Callable[[str], None]) -> int:
    """Run every test. What the run in the background printed is said at the end, and then the total counts.

    Returns:
        The exit status: that of an interrupted run, else pytest's first one that is not 0, else 0.
    """
    others = ["tests", *(f"--ignore={layer}" for layer in WAITING), *ON_EVERY_CORE]
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "output").open("w+b") as output:
        computing, waiting = Path(folder) / "computing.xml", Path(folder) / "waiting.xml"
        children = [
            start([*others, f"--junit-xml={computing}"], output),
            start([*WAITING, *_several_at_once(), f"--junit-xml={waiting}"]),
        ]
        statuses = [_status(child) for child in children]
        output.seek(0)
        say(output.read().decode(errors="replace"))
        say(str(_counts(statuses[0], computing) + _counts(statuses[1], waiting)))
    return next((status for status in statuses if status in INTERRUPTED), next(filter(None, statuses), 0))


def _several_at_once() -> tuple[str, ...]:
    """Let four tests wait at a time, or fewer if the machine's memory is too small for their servers."""
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**30
    return ("-n", str(max(1, min(4, memory_gib // GIB_OF_A_TEST))), "--dist", "worksteal")


def _status(child: Child) -> int:
    """Wait for pytest's exit status, or 128 plus the signal that ended it."""
    status = child.wait()
    return status if status >= 0 else 128 - status


def _counts(status: int, report: Path) -> Counts:
    counts = _read(report) if report.exists() else Counts()
    if status and not counts.failed:
        return counts + Counts(failed=1)  # pytest was interrupted or crashed, which must not look like a success
    return counts


def _read(report: Path) -> Counts:
    suites = ET.parse(report).getroot().iter("testsuite")  # noqa: S314 - see the import
    return sum(map(_count, suites), Counts())


def _count(suite: ET.Element) -> Counts:
    total, skipped, *bad = (int(suite.get(name, 0)) for name in ("tests", "skipped", "failures", "errors"))
    return Counts(total - skipped - sum(bad), sum(bad), skipped)


@contextmanager
def pytest_of(python: Path) -> Iterator[Start]:
    """Yield a starter of pytest with this Python. In the block SIGTERM is forwarded to everything that it started.

    A Ctrl-C reaches them directly, and this process waits for their summaries.
    """
    children: list[subprocess.Popen[bytes]] = []

    def start(arguments: Sequence[str], output: BinaryIO | None = None) -> Child:
        command = [*(LOW_PRIORITY if output else ()), str(python), "-m", "pytest", *arguments]
        children.append(subprocess.Popen(command, cwd=ROOT, stdout=output))  # failures go to the standard error
        return children[-1]

    def terminate(*_: object) -> None:
        for child in children:
            child.terminate()

    before = signal.signal(signal.SIGTERM, terminate), signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield start
    finally:
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGINT, before[1])
