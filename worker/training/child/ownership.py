"""Makes sure that one process at a time computes in a run's folder: the one of the latest attempt."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LOCK = "owner"


@contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Own the folder for the duration of a `with` block.

    An earlier attempt's process may still be there, if its trainer was suspended and lost the lease. On this host it is
    killed; one of another host ends when its trainer notices, and is waited for.
    """
    with (folder / LOCK).open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _kill(file.name)
            fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(f"{socket.gethostname()} {os.getpid()}")
        file.flush()
        yield


def _kill(path: str) -> None:
    """Kill the process that holds the lock, if it is on this host."""
    host, _, pid = Path(path).read_text(encoding="utf-8").partition(" ")
    if host == socket.gethostname() and pid.isdecimal():
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)
