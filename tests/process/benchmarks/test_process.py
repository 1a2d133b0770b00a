import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from benchmarks.rivals.process import Process, ProcessFailed
from common.settings import ROOT
from tests.processes import wait_for

MIB = 1024 * 1024
HOLDS = f"""
import subprocess, sys, pathlib, time
held = bytearray(b"x" * {32 * MIB})
if len(sys.argv) > 2:
    subprocess.Popen([sys.executable, __file__, sys.argv[2]])
pathlib.Path(sys.argv[1]).touch()
time.sleep(600)
"""


def test_the_memory_of_a_program_includes_its_children(tmp_path: Path) -> None:
    script, parent_up, child_up = tmp_path / "holds.py", tmp_path / "parent", tmp_path / "child"
    script.write_text(HOLDS)
    with Process([sys.executable, script, parent_up, child_up], tmp_path / "log") as process:
        process.wait_until(lambda: parent_up.exists() and child_up.exists())
        memory = process.peak_memory()

    assert memory.largest > 32 * MIB
    assert memory.total > 64 * MIB
    assert process.start_s > 0


def test_a_program_that_ends_before_it_is_ready_is_reported_with_its_log(tmp_path: Path) -> None:
    with (
        Process([sys.executable, "-c", "exit(3)"], tmp_path / "log") as process,
        pytest.raises(ProcessFailed) as failure,
    ):
        process.wait_until(lambda: False)

    assert "status 3" in str(failure.value)
    assert str(tmp_path / "log") in str(failure.value)


def test_a_terminated_benchmark_stops_its_servers() -> None:
    command = [sys.executable, "-m", "benchmarks.fleet"]
    with psutil.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as benchmark:
        servers = wait_for("its server", lambda: benchmark.children(recursive=True))
        benchmark.terminate()
        benchmark.wait(60)
        left = [one for one in servers if one.is_running()]
        for one in left:
            one.kill()
        assert left == []
