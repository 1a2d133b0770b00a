"""The set-up's output on the console."""

from __future__ import annotations

import io
import re
import time
from pathlib import Path

import pytest

from deploy.setup import stage
from deploy.setup.pip_install import PipProgress
from deploy.setup.stage import Stage


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def in_no_time(out: io.StringIO) -> str:
    """What was written, as if no second had passed."""
    return re.sub(r"\b\d:\d\d\b", "0:00", out.getvalue())


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr(stage, "MOVES_EVERY_S", 0.01)
    monkeypatch.setattr(stage, "PRINTS_EVERY_S", 0.01)


def test_on_a_terminal_one_line_is_updated() -> None:
    out = Terminal()
    with Stage("Packages", lambda: "half way " + "x" * 99, out=out):
        time.sleep(0.2)
    text = in_no_time(out)
    assert text.count("\n") == 1
    assert text.endswith("\r[setup] Packages  0:00  done\x1b[K\n")
    states = [state.removesuffix("\x1b[K") for state in text.rstrip("\n").split("\r")[1:]]
    assert "[setup] Packages  0:00  half way " in states[1]
    assert all(len(state) <= 59 for state in states), "a longer one would break into a second line"


@pytest.mark.parametrize(("err", "end"), [(None, "done"), (ValueError, "failed"), (KeyboardInterrupt, "interrupted")])
def test_elsewhere_a_plain_line_is_printed_periodically(err: type[BaseException] | None, end: str) -> None:
    out = io.StringIO()
    try:
        with Stage("Packages", lambda: "half way", out=out):
            time.sleep(0.2)
            if err is not None:
                raise err
    except (ValueError, KeyboardInterrupt):
        pass
    lines = in_no_time(out).splitlines()
    assert lines[0] == "[setup] Packages  0:00"
    assert lines[1] == "[setup] Packages  0:00  half way"
    assert lines[-1] == f"[setup] Packages  0:00  {end}"
    assert not re.search(r"[\r\x1b]", out.getvalue())


def test_a_simple_terminal_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr(stage, "PRINTS_EVERY_S", 60.0)
    out = Terminal()
    with Stage("Packages", out=out):
        pass
    assert in_no_time(out) == "[setup] Packages  0:00\n[setup] Packages  0:00  done\n"


def test_pips_progress_is_read_from_its_lines_and_its_files(tmp_path: Path) -> None:
    temporary, packages = tmp_path / "downloads", tmp_path / "site-packages"
    temporary.mkdir()
    packages.mkdir()
    pip = PipProgress(temporary, packages)
    assert str(pip) == "0 packages found"
    pip.note("Collecting six==1.17.0 (from -r requirements.txt (line 1))\n")
    pip.note("  Downloading six-1.17.0-py2.py3-none-any.whl (11 kB)\n")
    assert str(pip) == "1 packages found, fetching six"
    (temporary / "six.whl").write_bytes(b"x" * 11_000)
    pip.note("Collecting torch==2.13.0\n")
    pip.note("  Downloading torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl.metadata (30 kB)\n")
    pip.note("Downloading https://mirror.example/torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl (532.4 MB)\n")
    with (temporary / "torch.whl").open("wb") as file:
        file.truncate(123_000_000)
    assert str(pip) == "2 packages found, fetching torch: 123 of 532 MB"
    assert not pip.is_installing
    pip.note("Installing collected packages: typing_extensions, torch, six\n")
    assert pip.is_installing
    (packages / "typing_extensions-4.0.dist-info").mkdir()
    (packages / "pip-23.2.dist-info").mkdir()
    assert str(pip) == "unpacking 1 of 3 packages"
