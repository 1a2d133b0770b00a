"""Lowers the priority of processes and threads that compete with the engine."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from pathlib import Path

NICER = 10  # about a tenth of a core beside an engine thread: enough to make progress, too little to slow the engine


def give_way(pid: int) -> None:
    """Lower the priority of a child process's threads; no effect if it has ended.

    Not to idle priority: on a machine that is always busy, a legitimate task would never end.
    """
    for thread_id in _threads(pid):
        with suppress(ProcessLookupError):
            os.setpriority(os.PRIO_PROCESS, thread_id, os.getpriority(os.PRIO_PROCESS, thread_id) + NICER)


def give_way_in_this_thread() -> None:
    """Lower the priority of the calling thread, where threads have their own."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICER)


def _threads(pid: int) -> list[int]:
    folder = Path(f"/proc/{pid}/task")
    return [int(entry.name) for entry in folder.iterdir()] if folder.is_dir() else [pid]
