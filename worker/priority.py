"""Who gives way to the engine when all want a core."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

LOWEST = 19  # a seventieth of what one of the engine's threads gets
LOW = 5  # a third of that


def lower_thread(niceness: int) -> None:
    """Lower the calling thread's priority, which cannot be undone; only Linux gives threads one of their own."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), niceness)


def lower_process(pid: int, niceness: int) -> None:
    """Lower the priority of a child process, with all its threads. Nothing if it has ended."""
    for thread_id in _threads(pid):
        try:
            os.setpriority(os.PRIO_PROCESS, thread_id, niceness)
        except ProcessLookupError:
            continue


def _threads(pid: int) -> list[int]:
    folder = Path(f"/proc/{pid}/task")
    return [int(one.name) for one in folder.iterdir()] if folder.is_dir() else [pid]
