"""A model's folder appears complete or not at all, and is made once."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from models.installation import install_once

ASK = """
import sys
from pathlib import Path
from models.installation import install_once

base, name = Path(sys.argv[1]), sys.argv[2]

def make(scratch):
    (base / f"made-by-{name}").touch()
    sys.stdin.readline()
    (scratch / "model").mkdir()
    (scratch / "model" / "weights").write_text(name)
    return scratch / "model"

(base / f"{name}-asks").touch()
print((install_once(base / "model", make, progress=lambda line: None) / "weights").read_text())
"""


def test_if_two_processes_start_at_once_one_makes_the_folder_and_the_other_waits(tmp_path: Path) -> None:
    first = _start(tmp_path, "first")
    _wait_for(tmp_path / "made-by-first")
    second = _start(tmp_path, "second")
    _wait_for(tmp_path / "second-asks")
    assert not (tmp_path / "model").exists()
    answers = [process.communicate("go on\n", timeout=240)[0].strip() for process in (first, second)]
    assert answers == ["first", "first"]
    assert not (tmp_path / "made-by-second").exists()


def test_only_the_process_that_makes_the_folder_reports_its_path(tmp_path: Path) -> None:
    lines: list[str] = []
    for _ in range(2):
        install_once(tmp_path / "model", lambda scratch: scratch, progress=lines.append)
    assert lines == [f"The model is ready in {tmp_path / 'model'}"]


def test_the_remains_of_a_killed_process_are_deleted_first(tmp_path: Path) -> None:
    (tmp_path / ".model.partial").mkdir()
    (tmp_path / ".model.partial" / "half").touch()
    folder = install_once(tmp_path / "model", lambda scratch: scratch, progress=print)
    assert list(folder.iterdir()) == []


def test_a_failure_leaves_nothing_but_the_lock(tmp_path: Path) -> None:
    def fail(scratch: Path) -> Path:
        (scratch / "half").touch()
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        install_once(tmp_path / "model", fail, progress=print)
    assert [path.name for path in tmp_path.iterdir()] == [".model.lock"]


def _start(folder: Path, name: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", ASK, str(folder), name]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _wait_for(file: Path) -> None:
    deadline = time.monotonic() + 30
    while not file.exists():
        assert time.monotonic() < deadline, f"{file.name} did not appear"
        time.sleep(0.01)
