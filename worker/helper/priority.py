"""Who gives way to the engine when all want a core."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

NICER = 10  # a tenth of a core beside a thread of the engine: enough to get on, too little to slow it


def give_way(pid: int) -> None:
    """Let a child process have little of a core that others want, too. Nothing if it has ended.

    Not only what is idle: on a machine that is busy all the time an honest one would never end.
    """
    for thread_id in _threads(pid):
        with suppress(ProcessLookupError):
            os.setpriority(os.PRIO_PROCESS, thread_id, os.getpriority(os.PRIO_PROCESS, thread_id) + NICER)


def _threads(pid: int) -> list[int]:
    folder = Path(f"/proc/{pid}/task")
    return [int(one.name) for one in folder.iterdir()] if folder.is_dir() else [pid]
