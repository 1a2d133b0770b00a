"""The helper process: forks children for its worker, reports how they ended, and kills them when it ends."""

from __future__ import annotations

import gc
import os
import signal
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.reduction import recv_handle
from typing import Any

from worker.helper.messages import Services, receive, send

REAP_S = 1.0  # how often it checks for children that have ended


class Forker:
    """Serves the worker at the other end of `link` until it is closed. Handles one message at a time:

    {"configure": name, "value": ...}  no reply
    {"fork": service}                  followed by the child's end of a pipe; replies with the child's process id
    {"end": pid}                       kills the child if it still runs; replies with the signal that ended it, or 0
    """

    def __init__(self, link: Connection, services: Services) -> None:
        self._link = link
        self._services = services
        self._children: set[int] = set()
        self._endings: dict[int, int] = {}  # ended children -> signal, until the worker asks for it

    def run(self) -> None:
        """Serve until the link is closed."""
        gc.collect()
        gc.freeze()  # a collection would write to all pages that the children share
        try:
            while True:
                if self._link.poll(REAP_S):
                    self._handle(receive(self._link))
                self._reap()
        except (EOFError, OSError):
            for pid in self._children:
                os.kill(pid, signal.SIGKILL)

    def _handle(self, message: dict[str, Any]) -> None:
        match message:
            case {"configure": str(name), "value": value}:
                self._services.configure(name, value)
            case {"fork": str(service)}:
                send(self._link, self._fork(service, recv_handle(self._link)))
            case {"end": int(pid)}:
                send(self._link, self._end(pid))

    def _fork(self, service: str, descriptor: int) -> int:
        pid = os.fork()
        if pid == 0:
            try:
                self._link.close()
                _be_silent()
                self._services.serve(service, Connection(descriptor))
            finally:
                os._exit(0)
        os.close(descriptor)
        self._children.add(pid)
        return pid

    def _end(self, pid: int) -> int:
        if pid in self._children:
            os.kill(pid, signal.SIGKILL)  # no effect on a child that has already ended: its own signal is returned
            self._note(*os.waitpid(pid, 0))
        return self._endings.pop(pid, 0)

    def _reap(self) -> None:
        with suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                self._note(*found)

    def _note(self, pid: int, status: int) -> None:
        self._children.discard(pid)
        self._endings[pid] = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def _be_silent() -> None:
    """Discard stderr: native code that runs out of memory prints a page before it dies."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
