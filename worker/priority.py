"""Who gives way to the engine when all want a core."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path

LOWEST = 19  # niceness


def leave_only_idle_time(pid: int) -> None:
    """Let a child process compute only while nobody else wants the core. Nothing if it has ended."""
    for thread_id in _threads(pid):
        with suppress(ProcessLookupError):
            if sys.platform == "linux":
                os.sched_setscheduler(thread_id, os.SCHED_IDLE, os.sched_param(0))
            else:
                os.setpriority(os.PRIO_PROCESS, thread_id, LOWEST)


def _threads(pid: int) -> list[int]:
    folder = Path(f"/proc/{pid}/task")
    return [int(one.name) for one in folder.iterdir()] if folder.is_dir() else [pid]
