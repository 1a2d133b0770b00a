"""Who gives way to the engine when all want a core."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

LOW = 10  # niceness: a tenth of what one of the engine's threads gets where both want a core

LOWEST = 19

T = TypeVar("T")


def call_at_low_priority(function: Callable[[], T]) -> Future[T]:
    """Call the function on a thread of its own that gives way to the engine's, where threads have priorities."""
    result: Future[T] = Future()

    def run() -> None:
        if sys.platform == "linux":
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOW)
        try:
            result.set_result(function())
        except BaseException as error:  # the caller's business, whatever it is
            result.set_exception(error)

    threading.Thread(target=run, name="slm-low-priority", daemon=True).start()
    return result


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
