"""The trainer's side of its child process."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, NamedTuple

from worker.training.task import PUBLISH, STOP, Kind, Task

CHILD = ("-m", "worker.training.child")
READ_BYTES = 65_536


class Message(NamedTuple):
    """A message of the child; `values` as in `Kind`."""

    kind: Kind
    values: dict[str, Any]


class ChildProcess:
    """One attempt of a job, in its own process. A context manager: exiting it kills the process.

    Args:
        task: what it computes.
        program: Python's arguments before the descriptor.
    """

    def __init__(self, task: Task, program: Sequence[str] = CHILD) -> None:
        self._source, target = os.pipe()
        try:
            self._process = subprocess.Popen(
                [sys.executable, *program, str(target)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,  # libraries print to it
                pass_fds=(target,),
                text=True,
            )
        finally:
            os.close(target)
        self._unread = b""
        self._tell(task.to_line())

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def stop(self) -> None:
        """Ask the process to end soon."""
        self._tell(STOP)

    def publish(self) -> None:
        """Let the process publish, as it has asked to."""
        self._tell(PUBLISH)

    def messages(self, poll_s: float) -> Iterator[Message | None]:
        """Yield its messages, and None after `poll_s` seconds without one, until it has ended."""
        while True:
            if not select.select([self._source], [], [], poll_s)[0]:
                yield None
                continue
            piece = os.read(self._source, READ_BYTES)
            if not piece:
                return
            *lines, self._unread = (self._unread + piece).split(b"\n")
            for line in lines:
                values = json.loads(line)
                yield Message(Kind(values.pop("kind")), values)

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None  # noqa: S101 - it is a pipe
        with suppress(BrokenPipeError):  # it has ended; its last message says how
            self._process.stdin.write(line)
            self._process.stdin.flush()

    def __enter__(self) -> ChildProcess:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _err: BaseException | None, _tb: TracebackType | None
    ) -> None:
        self._process.kill()
        with suppress(BrokenPipeError):
            self._process.communicate()
        os.close(self._source)
