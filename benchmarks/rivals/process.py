"""Starts, monitors and stops a measured program. Linux only: it reads /proc."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from common.settings import ROOT

READY_S = 300  # generous: a program that takes longer has failed
STOP_S = 60
POLL_S = 0.01
PROC = Path("/proc")


class ProcessFailed(Exception):
    """The program ended or did not become ready; the text names its log."""


@dataclass(frozen=True)
class PeakMemory:
    """The peak resident memory of a program, in bytes."""

    largest: int  # of its largest process
    total: int  # of all its processes; shared memory counts for each of them


class Process:
    """A program and its child processes. Leaving the `with` block stops them.

    Args:
        command: the program and its arguments; it runs in the project's folder.
        log: the file to which its output is appended.
        env: variables in addition to this process's own.
        inherited: a socket that the program inherits with the same number.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        log: Path,
        env: Mapping[str, str] | None = None,
        inherited: socket.socket | None = None,
    ) -> None:
        self.start_s = 0.0  # from the start to the return of `wait_until`
        self._log = log
        self._begun = time.perf_counter()
        with log.open("ab") as out:
            self._child = subprocess.Popen(
                command,
                cwd=ROOT,
                env=os.environ | (env or {}),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                pass_fds=() if inherited is None else (inherited.fileno(),),
                start_new_session=True,  # only the benchmark gets a Ctrl-C; it then stops the program
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def wait_until(self, is_ready: Callable[[], bool]) -> None:
        """Poll until the program is ready, and record how long that took.

        Raises:
            ProcessFailed: it ended, or took too long.
        """
        while not is_ready():
            if self._child.poll() is not None:
                raise ProcessFailed(f"the program ended with status {self._child.returncode}: see {self._log}")
            if time.perf_counter() - self._begun > READY_S:
                raise ProcessFailed(f"the program was not ready within {READY_S} s: see {self._log}")
            time.sleep(POLL_S)
        self.start_s = time.perf_counter() - self._begun

    def peak_memory(self) -> PeakMemory:
        """Return the peak memory of the processes that still exist."""
        peaks = [_peak_bytes(pid) for pid in self.family()]
        return PeakMemory(max(peaks), sum(peaks))

    def stop(self) -> None:
        """Terminate the program, and kill its remaining processes: the next system needs an idle machine."""
        members = self.family()
        self._child.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(STOP_S)
        self._child.kill()
        self._child.wait()
        for pid in members[1:]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def family(self) -> list[int]:
        """Return the process ids of the program and its descendants."""
        return family(self._child.pid)


def family(root: int) -> list[int]:
    """Return the process ids of a process and its descendants."""
    parents, found = _parents(), [root]
    for pid in found:  # the list grows during the loop
        found += [child for child, parent in parents.items() if parent == pid]
    return found


def processor_seconds(pid: int) -> tuple[str, float]:
    """Return the command line of a process, and the processor time that it and its ended children have used."""
    with suppress(OSError):
        command = (PROC / str(pid) / "cmdline").read_text().replace("\0", " ")
        fields = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        return command, sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return "", 0.0


def _parents() -> dict[int, int]:
    """Return the parent of each process."""
    parents = {}
    for folder in PROC.glob("[0-9]*"):
        with suppress(OSError):  # it has ended in the meantime
            after_name = (folder / "stat").read_text().rpartition(")")[2]
            parents[int(folder.name)] = int(after_name.split()[1])
    return parents


def _peak_bytes(pid: int) -> int:
    """Return the peak resident memory of a process, in bytes; 0 if it has ended."""
    with suppress(OSError):
        for line in (PROC / str(pid) / "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    return 0
