"""The data folder: one start at a time, private, and free again however the last start ended."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from deploy import data_folder
from deploy.data_folder import announced_redis, claim_data_dir, installation
from deploy.setup.preflight import PreflightError
from tests.processes import wait_for


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_data_folder_is_created_and_locked_and_unlocked_afterwards(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    claim_data_dir(folder).release()
    claim_data_dir(folder).release()
    assert (folder / "start.lock").read_text() == str(os.getpid())


def test_a_data_folder_that_cannot_be_written_gives_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PreflightError, match=r"Cannot write to the data folder .*SLM_DATA_DIR"):
        claim_data_dir(tmp_path / "file" / "data")


def test_a_data_folder_in_use_names_the_process_that_has_it(tmp_path: Path) -> None:
    claim = claim_data_dir(tmp_path)
    with pytest.raises(PreflightError, match=f"process {os.getpid()}.*{tmp_path}"):
        claim_data_dir(tmp_path)
    claim.release()


def test_the_processes_of_a_killed_start_get_time_to_end(tmp_path: Path) -> None:
    killed = claim_data_dir(tmp_path)
    os.close(killed.own)
    threading.Timer(0.3, os.close, [killed.inherited]).start()
    claim_data_dir(tmp_path).release()


@contextmanager
def holding(descriptor: int) -> Iterator[subprocess.Popen[bytes]]:
    """A process that inherited the descriptor, with a child that did not and that ignores SIGTERM."""
    code = """
import signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
below = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(below.pid, flush=True)
time.sleep(600)
"""
    process = subprocess.Popen([sys.executable, "-c", code], pass_fds=(descriptor,), stdout=subprocess.PIPE)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def has_ended(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_processes_of_a_killed_start_that_do_not_end_are_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data_folder, "LEFTOVERS_S", 0.2)
    killed = claim_data_dir(tmp_path)
    with holding(killed.inherited) as process, (tmp_path / "processes.lock").open() as _backup:
        assert process.stdout is not None
        below = int(process.stdout.readline())
        killed.release()
        claim_data_dir(tmp_path).release()
        assert process.wait(60) == -signal.SIGKILL
        wait_for("the process below it to end", lambda: has_ended(below), 10)


def test_processes_that_cannot_be_ended_keep_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_folder, "LEFTOVERS_S", 0.1)
    monkeypatch.setattr(data_folder, "KILLED_S", 0.1)
    killed = claim_data_dir(tmp_path)
    os.close(killed.own)
    with pytest.raises(PreflightError, match="Processes of an earlier start"):
        claim_data_dir(tmp_path)  # this process has the lock, and does not kill itself
    os.close(killed.inherited)


def test_a_running_server_reports_the_address_of_its_redis(tmp_path: Path) -> None:
    assert announced_redis(tmp_path) is None
    claim = claim_data_dir(tmp_path)
    with pytest.raises(PreflightError, match="try again"):
        announced_redis(tmp_path)
    claim.announce("redis://127.0.0.1:7/0")
    assert announced_redis(tmp_path) == "redis://127.0.0.1:7/0"
    with pytest.raises(PreflightError, match=f"process {os.getpid()}\\)"):
        claim_data_dir(tmp_path)
    claim.release()
    assert announced_redis(tmp_path) is None
    claim_data_dir(tmp_path).release()
    assert announced_redis(tmp_path) is None  # the last server's address is not this one's


def test_the_address_for_celery_is_in_a_file_that_only_this_user_can_read(tmp_path: Path) -> None:
    claim = claim_data_dir(tmp_path)
    claim.announce("unix://:secret@/run/redis.sock?db=0")
    claim.release()
    file = tmp_path / data_folder.BROKER_URL
    assert file.read_text() == "redis+socket://:secret@/run/redis.sock?virtual_host=0"
    assert mode(file) == 0o600


def test_no_other_user_can_look_into_the_data_folder(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    claim_data_dir(folder).release()
    assert {mode(path) for path in (folder, folder / "redis", folder / "logs")} == {0o700}
    assert {mode(path) for path in folder.glob("*.lock")} == {0o600}


def test_a_data_folder_of_an_older_version_becomes_private(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "redis").mkdir(mode=0o755)
    (tmp_path / "start.lock").touch(0o644)
    tmp_path.chmod(0o755)
    claim_data_dir(tmp_path).release()
    assert mode(tmp_path) == mode(tmp_path / "redis") == 0o700
    assert mode(tmp_path / "start.lock") == 0o600


def test_a_folder_with_other_contents_stays_open_except_for_our_parts(tmp_path: Path) -> None:
    (tmp_path / "somebody's").mkdir()
    tmp_path.chmod(0o755)
    claim_data_dir(tmp_path).release()
    claim_data_dir(tmp_path).release()
    assert mode(tmp_path) == 0o755
    assert mode(tmp_path / "redis") == mode(tmp_path / "logs") == 0o700


def test_an_installation_keeps_its_name_and_no_two_share_one(tmp_path: Path) -> None:
    names = [installation(folder) for folder in (tmp_path, tmp_path)]
    (tmp_path / "other").mkdir()
    assert names[0] == names[1] != installation(tmp_path / "other")
    (tmp_path / "installation").write_bytes(b"\0\0\0")  # as after a power cut
    assert re.fullmatch("[0-9a-f]{6}", installation(tmp_path))
