"""Kills the processes that a killed start left running: those that still hold the lock file they inherited."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from psutil import Process


def kill(lock: Path) -> None:
    """Kill every process that has `lock` open for writing and all its descendants, except the calling process."""
    import psutil

    path = os.path.realpath(lock)
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and _holds(process, path):
                _kill(process)
        except psutil.Error:  # it has ended, or it belongs to another user
            continue


def _holds(process: Process, path: str) -> bool:
    """Only Linux reports the mode of an open file: there, a program that only reads it (a backup) is left alone."""
    return any(file.path == path and getattr(file, "mode", "r+") == "r+" for file in process.open_files())


def _kill(process: Process) -> None:
    for one in [*process.children(recursive=True), process]:
        one.kill()
