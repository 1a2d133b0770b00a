"""The helper: hands requests to children, watches their clocks, and kills the ones that take too long."""

from __future__ import annotations

import gc
import os
import signal
import time
from collections import deque
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait

from worker.helper import child
from worker.helper.child import TOO_LARGE
from worker.helper.messages import Answer, Request, Tasks, receive, send

MAX_CHILDREN = 6
MAX_IDLE = 2
PATIENCE_S = 0.05  # for so long a request computes as the engine's equal, then it gets what others leave over
LOWEST_PRIORITY = 19
TOO_LONG = "takes too long"


class _Child:
    """A forked process and what it is doing."""

    def __init__(self, pid: int, link: Connection) -> None:
        self.pid = pid
        self.link = link
        self.request: Request | None = None
        self.is_slow = False  # its priority was lowered, which cannot be undone
        self._since = 0.0

    def begin(self, request: Request) -> None:
        self.request, self._since = request, time.monotonic()
        send(self.link, request.to_wire())

    @property
    def deadline(self) -> float:
        """When to look at it next."""
        limit = self.request.limits.wall_s if self.request else 0.0
        return self._since + (limit if self.is_slow else min(limit, PATIENCE_S))

    @property
    def is_late(self) -> bool:
        return self.request is not None and time.monotonic() - self._since >= self.request.limits.wall_s

    def slow_down(self) -> None:
        self.is_slow = True
        os.setpriority(os.PRIO_PROCESS, self.pid, LOWEST_PRIORITY)

    def kill(self) -> int:
        """End it, if it has not ended; returns the signal that ended it, 0 where none did."""
        os.kill(self.pid, signal.SIGKILL)  # one that has ended is still there to be waited for
        _, status = os.waitpid(self.pid, 0)
        self.link.close()
        return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


class Server:
    """Serves the worker at the other end of `link` until that is closed."""

    def __init__(self, link: Connection, tasks: Tasks) -> None:
        self._link = link
        self._tasks = tasks
        self._children: dict[Connection, _Child] = {}
        self._waiting: deque[Request] = deque()

    def run(self) -> None:
        """Serve."""
        gc.collect()
        gc.freeze()  # a collection would write to every page that the children share
        try:
            while True:
                self._hand_out()
                ready = wait([self._link, *self._children], self._pause_s())
                for one in [one for link, one in self._children.items() if link in ready]:
                    self._collect(one)
                if self._link in ready:
                    self._take(receive(self._link))
                self._watch_clocks()
        except (EOFError, OSError):
            return
        finally:
            for one in self._children.values():
                one.kill()

    def _take(self, message: dict[str, object]) -> None:
        match message:
            case {"configure": str(name), "value": value}:
                self._tasks.configure(name, value)
                self._drop_idle(0)  # they have not learnt it
            case {"cancel": int(number)}:
                self._cancel(number)
            case {"end": True}:
                raise EOFError
            case _:
                self._waiting.append(Request.from_wire(message))

    def _cancel(self, number: int) -> None:
        self._waiting = deque(one for one in self._waiting if one.number != number)
        for one in self._busy():
            if one.request is not None and one.request.number == number:
                self._remove(one)

    def _hand_out(self) -> None:
        while self._waiting and (one := self._free_child()) is not None:
            try:
                one.begin(self._waiting[0])
            except OSError:  # it has died while it had nothing to do
                self._remove(one)
            else:
                self._waiting.popleft()

    def _free_child(self) -> _Child | None:
        idle = next((one for one in self._children.values() if one.request is None), None)
        if idle is not None or len(self._children) >= MAX_CHILDREN:
            return idle
        return self._fork()

    def _fork(self) -> _Child:
        ours, theirs = Pipe()
        pid = os.fork()
        if pid == 0:
            try:
                for link in (self._link, ours, *self._children):
                    link.close()
                child.serve(theirs, self._tasks)
            finally:
                os._exit(0)
        theirs.close()
        self._children[ours] = one = _Child(pid, ours)
        return one

    def _collect(self, one: _Child) -> None:
        """Pass the child's answer on, or say how it died."""
        request = one.request
        try:
            answer = Answer(**receive(one.link))
        except (EOFError, OSError):
            ended_by = self._remove(one)
            if request is not None:
                over = TOO_LONG if ended_by == signal.SIGPROF else TOO_LARGE
                send(self._link, Answer(request.number, over=over).to_wire())
            return
        one.request = None
        send(self._link, answer.to_wire())
        if answer.is_last or one.is_slow:
            self._remove(one)
        self._drop_idle(MAX_IDLE)

    def _watch_clocks(self) -> None:
        for one in self._busy():
            if one.is_late and one.request is not None:
                number = one.request.number
                self._remove(one)
                send(self._link, Answer(number, over=TOO_LONG).to_wire())
            elif not one.is_slow and time.monotonic() >= one.deadline:
                one.slow_down()

    def _pause_s(self) -> float | None:
        deadlines = [one.deadline for one in self._busy()]
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None

    def _busy(self) -> list[_Child]:
        return [one for one in self._children.values() if one.request is not None]

    def _drop_idle(self, keep: int) -> None:
        for one in [one for one in self._children.values() if one.request is None][keep:]:
            self._remove(one)

    def _remove(self, one: _Child) -> int:
        del self._children[one.link]
        return one.kill()
