"""Runs a program that dies with its parent: `python launch.py PARENT_PID SIGNAL PROGRAM [ARGUMENT ...]`.

On Linux the kernel sends SIGNAL to the program as soon as the parent is gone, even after SIGKILL. This is a separate
program because a function run between fork and exec (`preexec_fn`) may deadlock if the parent has threads.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1


def tied(program: Sequence[str], orphan_signal: signal.Signals = signal.SIGKILL) -> list[str]:
    """Return the command that runs `program` so that it gets `orphan_signal` when this process is gone (Linux).

    The main thread must start it: for the kernel, the parent is the starting thread.
    """
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(orphan_signal.value), *program]


def main(argv: list[str]) -> None:
    """Replace this process with the program."""
    parent, number, program = int(argv[0]), int(argv[1]), argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)
        if os.getppid() != parent:
            sys.exit("The parent ended before this program started.")
    try:
        os.execvp(program[0], program)  # noqa: S606 - no shell is wanted
    except OSError as err:
        sys.exit(f"Cannot run {program[0]}: {err.strerror}")


if __name__ == "__main__":
    main(sys.argv[1:])
