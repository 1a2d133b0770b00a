from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from common.settings import ROOT

TESTS = """
import time
from pathlib import Path

def test_first():
    assert "an apple" == "a pear"

def test_second():
    while not Path("seen").exists():
        time.sleep(0.01)
"""


def test_a_failure_is_printed_while_other_tests_still_run(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text("from tests.early_failures import register as pytest_configure\n")
    (tmp_path / "test_two.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "--rootdir", ".", "-c", os.devnull, "-p", "xdist", "-n", "1"]
    with (
        (tmp_path / "output").open("wb") as output,
        subprocess.Popen(
            command,
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
            stdout=output,
            stderr=subprocess.PIPE,
            text=True,
        ) as running,
    ):
        assert running.stderr is not None
        printed = []
        for line in running.stderr:
            printed.append(line)
            if "an apple" in line:
                (tmp_path / "seen").touch()
    assert running.returncode == 1, (tmp_path / "output").read_text()
    assert "FAILED test_two.py::test_first (call)\n" in printed
    assert "an apple" in (tmp_path / "output").read_text(), "the summary at the end has it, too"
