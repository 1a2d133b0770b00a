"""Any number of threads do every task of every phase once, after all tasks of the phase before it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.missing import skip_or_fail
from worker.engine.native.build import SOURCES

STRESS = Path(__file__).parent / "thread_pool_stress.c"
RACE_DETECTOR = ("-fsanitize=thread", "-g")


def build(folder: Path, *flags: str) -> Path:
    program = folder / "stress"
    sources = [str(STRESS), str(SOURCES / "thread_pool.c")]
    command = ["cc", "-std=gnu11", "-O2", *flags, f"-I{SOURCES}", *sources, "-pthread", "-o", str(program)]
    subprocess.run(command, check=True, capture_output=True)
    return program


def run(program: Path, threads: int, runs: int) -> None:
    done = subprocess.run([program, str(threads), str(runs)], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_no_task_is_lost_done_twice_or_done_early(tmp_path: Path, threads: int) -> None:
    run(build(tmp_path), threads, 1500)


def test_the_race_detector_finds_nothing(tmp_path: Path) -> None:
    try:
        program = build(tmp_path, *RACE_DETECTOR)
    except subprocess.CalledProcessError as error:
        skip_or_fail(f"this compiler has no race detector: {error.stderr.decode()[:200]}")
    run(program, 3, 100)
