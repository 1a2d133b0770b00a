"""Starts the helper process and calls it, on the worker's side."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any, TypeVar

import psutil

from common.errors import InternalError, Overloaded, SLMError
from common.settings import ROOT
from worker.helper.given_up import POLL_S, GivenUp, IsGivenUp, holding, never
from worker.helper.limits import Limits, OverLimit
from worker.helper.messages import receive, send, send_descriptor
from worker.helper.priority import give_way

TASKS = "tasks"  # the service of the children that run the tasks of `Helper.call`
PATIENCE_S = 0.02  # about how long a child computes with normal priority; after that it gives way
MAX_TASKS = 6  # concurrent tasks
MAX_IDLE = 2  # children that wait for the next task
END_S = 5.0  # how long the helper may take to end
_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
RETRY_S = 5  # after that an overloaded machine may have recovered

T = TypeVar("T")


log = logging.getLogger(__name__)


class HelperClosed(GivenUp):
    """The helper was closed because its model was unloaded."""


class Child:
    """A forked process. Only one thread at a time may use it. It ends when its link is closed."""

    def __init__(self, pid: int, link: Connection, configuration: int) -> None:
        self.pid = pid
        self.link = link
        self.configuration = configuration  # the number of the configuration that it was forked with
        self.is_slow = False  # whether it gives way to the engine
        self._watched_since = 0.0
        self._cpu_s = 0.0  # its CPU time at that moment

    def receive(self, is_given_up: IsGivenUp) -> Any:
        """Wait for the child's next message.

        Raises:
            EOFError, OSError: the child has ended.
            GivenUp: `is_given_up` became true first.
        """
        while not self.link.poll(POLL_S):
            if is_given_up():
                raise GivenUp
            self._give_way_after(0.0)
        return receive(self.link)

    def watch(self, asked_at: float) -> None:
        """Lower the child's priority if it computes for long; call repeatedly while waiting for its reply.

        CPU time before this request does not count, because many short computations do no harm.
        """
        if time.monotonic() - asked_at < PATIENCE_S:
            return
        if asked_at != self._watched_since:
            self._watched_since, self._cpu_s = asked_at, _cpu_s(self.pid)
        self._give_way_after(self._cpu_s)

    def _give_way_after(self, cpu_s: float) -> None:
        if not self.is_slow and _cpu_s(self.pid) - cpu_s >= PATIENCE_S:
            self.is_slow = True
            give_way(self.pid)


def _cpu_s(pid: int) -> float:
    """Return the CPU time of the process; 0 if it has ended."""
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return times.user + times.system


@dataclass(frozen=True, slots=True)
class _Process:
    popen: subprocess.Popen[bytes]
    link: Connection


class Helper:
    """A helper process, started on first use and restarted if it dies. Thread-safe.

    Args:
        services: the class of its children's services (a `messages.Services`), as `module:class`.
    """

    def __init__(self, services: str) -> None:
        self._services = services
        self._lock = threading.Lock()
        self._process: _Process | None = None
        self._configuration: dict[str, Any] = {}
        self._num_configured = 0
        self._is_closed = False
        self._num_users = 0
        self._idle: list[Child] = []
        self._task_permits = threading.Semaphore(MAX_TASKS)

    def start(self) -> None:
        """Start the process without waiting for it."""
        with self._lock:
            self._running()

    def configure(self, name: str, value: Any) -> None:
        """Set a value that later children need; it is sent again whenever the process restarts."""
        with self._lock:
            self._configuration[name] = value
            self._num_configured += 1
            if self._process is not None:
                with suppress(OSError):  # it has died; the next one receives the value when it starts
                    send(self._process.link, {"configure": name, "value": value})

    def forget(self, name: str) -> None:
        """Drop a value that no later child needs."""
        self.configure(name, None)
        with self._lock:
            self._configuration.pop(name, None)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep the helper running for the duration of a `with` block. Raises `HelperClosed` if it was closed before."""
        with self._lock:
            if self._is_closed:
                raise HelperClosed
            self._num_users += 1
        try:
            yield
        finally:
            with self._lock:
                self._num_users -= 1
                self._end_if_unused()

    def fork(self, service: str) -> Child:
        """Fork a new child for that service. Call `fork` and `end` only while `in_use`.

        Raises:
            InternalError: the helper does not work.
        """
        ours, theirs = Pipe()
        with theirs:
            return self._ask(lambda link: Child(_fork(link, service, theirs), ours, self._num_configured))

    def end(self, child: Child) -> OverLimit | Overloaded:
        """Kill the child. If it has ended by itself, the returned error says why.

        `Overloaded`: it did not get enough CPU time, which is not the fault of its task.
        """
        child.link.close()
        ended_by = self._ask(lambda link: _end(link, child.pid))
        if ended_by == signal.SIGALRM:
            return Overloaded("The worker is overloaded; try again.", retry_after_s=RETRY_S)
        return OverLimit("takes too long" if ended_by == signal.SIGPROF else "needs too much memory")

    def call(
        self, task: str, args: Any, limits: Limits, is_given_up: IsGivenUp = never, *, is_long: bool = False
    ) -> Any:
        """Run a task in a child and return its result.

        Args:
            task: its name.
            args: its arguments.
            limits: of its child.
            is_given_up: whether the result is no longer needed.
            is_long: whether it computes for long. It then gets a new child, so that the idle ones are left for short
                tasks, which would otherwise wait for a fork.

        Raises:
            OverLimit: the task exceeded a limit.
            Overloaded: the task did not get enough CPU time in time.
            GivenUp: `is_given_up` became true first.
            HelperClosed: the helper was closed before.
            SLMError: raised by the task.
        """
        with self.in_use(), holding(self._task_permits, is_given_up):
            reply = self._run_task({"task": task, "args": args, "limits": asdict(limits)}, is_given_up, is_long)
        if "error" in reply:
            raise SLMError.from_dict(reply["error"])
        return reply["value"]

    def close(self) -> None:
        """End the process as soon as its current users are done; their limits bound the wait."""
        with self._lock:
            self._is_closed = True
            self._end_if_unused()

    def _end_if_unused(self) -> None:
        if not self._is_closed or self._num_users or self._process is None:
            return
        process, self._process = self._process, None
        for child in self._idle:
            child.link.close()
        process.link.close()
        _wait_or_kill(process.popen)

    def _run_task(self, request: dict[str, Any], is_given_up: IsGivenUp, is_long: bool) -> dict[str, Any]:
        child = self._ready_child(request, is_long)
        try:
            reply: dict[str, Any] = child.receive(is_given_up)
        except (EOFError, OSError):
            raise self.end(child) from None
        except GivenUp:
            self.end(child)
            raise
        if child.is_slow or len(self._idle) >= MAX_IDLE:
            child.link.close()
        else:
            self._idle.append(child)
        return reply

    def _ready_child(self, request: dict[str, Any], is_new: bool) -> Child:
        """Return a child that has received the request; idle children may have died."""
        while True:
            child = (None if is_new else self._idle_child()) or self.fork(TASKS)
            with suppress(OSError):
                send(child.link, request)
                return child

    def _idle_child(self) -> Child | None:
        with suppress(IndexError):
            while (child := self._idle.pop()).configuration != self._num_configured:
                child.link.close()
            return child
        return None

    def _ask(self, talk: Callable[[Connection], T]) -> T:
        """Call `talk` with the link to the helper; if the helper dies, try once more with a new one."""
        with self._lock:
            for _ in range(2):
                process = self._running()
                try:
                    return talk(process.link)
                except (EOFError, OSError) as err:
                    log.warning("the helper process died (%s); starting a new one", err)
                    self._process = None
                    process.link.close()
                    _wait_or_kill(process.popen)
        raise InternalError("The worker's helper process does not work; the worker's log has the details.")

    def _running(self) -> _Process:
        if self._process is None:
            self._process = _started(self._services)
            for name, value in self._configuration.items():
                send(self._process.link, {"configure": name, "value": value})
        return self._process


def _started(services: str) -> _Process:
    ours, theirs = Pipe()
    with theirs:
        descriptor = theirs.fileno()
        command = [sys.executable, "-m", "worker.helper", str(descriptor), services]
        popen = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | _ENVIRONMENT, stdin=subprocess.DEVNULL, pass_fds=[descriptor]
        )
    return _Process(popen, ours)


def _fork(link: Connection, service: str, theirs: Connection) -> int:
    send(link, {"fork": service})
    send_descriptor(link, theirs.fileno())
    pid: int = receive(link)
    return pid


def _end(link: Connection, pid: int) -> int:
    send(link, {"end": pid})
    ended_by: int = receive(link)
    return ended_by


def _wait_or_kill(popen: subprocess.Popen[bytes]) -> None:
    try:
        popen.wait(END_S)
    except subprocess.TimeoutExpired:
        popen.kill()
        popen.wait()
