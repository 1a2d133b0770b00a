from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from urllib.error import HTTPError, URLError

import pytest

from deploy.audit import CONSTRAINTS, audit
from deploy.bootstrap import ROOT


class Runs:
    """Keeps the commands instead of running them."""

    def __init__(self, status: int = 0) -> None:
        self.commands: list[Sequence[str]] = []
        self._status = status

    def __call__(self, command: Sequence[str]) -> int:
        self.commands.append(command)
        return self._status


def failing(error: Exception) -> Callable[[], bytes]:
    def fetch() -> bytes:
        raise error

    return fetch


@pytest.mark.parametrize("status", [0, 1])
def test_the_audit_decides_if_the_advisories_are_available(status: int) -> None:
    run = Runs(status)
    assert audit(lambda: b'{"vulnerabilities": []}', run) == status
    [command] = run.commands
    assert command[:3] == [sys.executable, "-m", "pip_audit"]
    assert str(CONSTRAINTS) in command


@pytest.mark.parametrize(
    "fetch",
    [
        failing(URLError("no network")),
        failing(HTTPError("https://x", 404, "Not Found", None, None)),  # type: ignore[arg-type]
        failing(TimeoutError("too slow")),
        lambda: b"<html>a mirror</html>",
        lambda: b"{}",
    ],
)
def test_without_advisories_the_audit_is_skipped_with_a_line(
    fetch: Callable[[], bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    run = Runs()
    assert audit(fetch, run) == 0
    assert run.commands == []
    [line] = capsys.readouterr().out.splitlines()
    assert line.startswith("Dependency audit skipped: ")


def test_pip_audit_is_installed_and_accepts_the_command() -> None:
    run = Runs()
    audit(lambda: b'{"vulnerabilities": []}', run)
    command = [*run.commands[0], "--help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "usage: pip-audit" in done.stdout


def test_the_audit_is_part_of_the_checks() -> None:
    assert "-m deploy.audit" in (ROOT / ".ci" / "run").read_text()
