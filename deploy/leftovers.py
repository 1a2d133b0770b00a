"""What a killed start left running: processes that still have the lock file open which they inherited from it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from psutil import Process


def kill(lock: Path) -> None:
    """Kill every process that has `lock` open for writing, and what it started; but not the calling one."""
    import psutil

    path = os.path.realpath(lock)
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and _holds(process, path):
                _kill(process)
        except psutil.Error:  # it has ended, or it is another user's
            continue


def _holds(process: Process, path: str) -> bool:
    """Only Linux tells how a file was opened: there a program that reads it, such as a backup, is left alone."""
    return any(file.path == path and getattr(file, "mode", "r+") == "r+" for file in process.open_files())


def _kill(process: Process) -> None:
    for one in [*process.children(recursive=True), process]:
        one.kill()
