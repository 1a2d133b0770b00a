"""Runs the whole test suite in two runs of pytest: the layers of quick tests, then those with many processes.

Standard library only.
"""

from __future__ import annotations

import signal
import subprocess
import tempfile
import xml.etree.ElementTree as ET  # only reads files written by pytest
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.bootstrap import ROOT

QUICK = [f"tests/{layer}" for layer in ("unit", "golden", "contract", "fuzz", "kernels", "native", "process")]
ON_EVERY_CORE = ("-n", "logical", "--dist", "worksteal")
TWO_FILES_AT_ONCE = ("-n", "2", "--dist", "loadfile")  # more would need too much memory: each has servers with a model
INTERRUPTED = (2, 128 + signal.SIGINT, 128 + signal.SIGTERM)  # a Ctrl-C, noticed by pytest or too early for that


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


def run_suite(run: Callable[[Sequence[str]], int], say: Callable[[str], None]) -> int:
    """Run every test, and say the total counts at the end.

    Args:
        run: runs pytest with the given arguments and returns its exit status.
        say: shows a line.

    Returns:
        The exit status: pytest's first one that is not 0, else 0.
    """
    total, statuses = Counts(), []
    others = ["tests", *(f"--ignore={layer}" for layer in QUICK)]
    for arguments in ([*QUICK, *ON_EVERY_CORE], [*others, *TWO_FILES_AT_ONCE]):
        status, counts = _run_one(run, arguments)
        total += counts
        statuses.append(status)
        if status in INTERRUPTED:
            break
    say(str(total))
    return next(filter(None, statuses), 0)


def _run_one(run: Callable[[Sequence[str]], int], arguments: Sequence[str]) -> tuple[int, Counts]:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        status = run([*arguments, f"--junit-xml={report}"])
        counts = _read(report) if report.exists() else Counts()
    if status and not counts.failed:
        counts += Counts(failed=1)  # pytest was interrupted or crashed, which must not look like a success
    return status, counts


def _read(report: Path) -> Counts:
    suites = ET.parse(report).getroot().iter("testsuite")  # noqa: S314 - see the import
    return sum(map(_count, suites), Counts())


def _count(suite: ET.Element) -> Counts:
    total, skipped, *bad = (int(suite.get(name, 0)) for name in ("tests", "skipped", "failures", "errors"))
    return Counts(total - skipped - sum(bad), sum(bad), skipped)


def run_pytest(python: Path, arguments: Sequence[str]) -> int:
    """Run pytest in the project's folder. Returns its exit status, or 128 plus the signal that ended it."""
    child = subprocess.Popen([str(python), "-m", "pytest", *arguments], cwd=ROOT)
    with _signals_for(child):
        status = child.wait()
    return status if status >= 0 else 128 - status


@contextmanager
def _signals_for(child: subprocess.Popen[bytes]) -> Iterator[None]:
    """Forward SIGTERM to the child. A Ctrl-C reaches the child directly, and this process waits for its summary."""
    before = signal.signal(signal.SIGTERM, lambda *_: child.terminate()), signal.signal(signal.SIGINT, lambda *_: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before[0])
        signal.signal(signal.SIGINT, before[1])
