"""Keeps a set of processes running and stops them in order. Independent of what they do.

Start        in the given order, without waiting
Death        the process's whole group is killed, then the process is restarted after a pause (`Backoff`)
Stop         lowest `stop_order` first; equal ones together: SIGTERM, `stop_grace_s` to end, then SIGKILL to the group
Second stop  SIGKILL to all remaining processes

Every process leads its own session, so that a terminal's Ctrl-C reaches only the supervisor.
"""

from __future__ import annotations

import math
import os
import queue
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from deploy.launch import tied
from deploy.processes.backoff import Backoff
from deploy.processes.child_log import last_line, open_log


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """A process to keep running. The kernel sends it `orphan_signal` if the supervisor is killed (Linux)."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    folder: Path
    log: Path
    stop_order: int
    stop_grace_s: float
    orphan_signal: signal.Signals = signal.SIGTERM
    inherited_fds: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class _Ended:
    """A process ended; `status` is as in `subprocess`: the negative signal number if a signal killed it."""

    child: _Child
    status: int


@dataclass(frozen=True, slots=True)
class _StopRequested:
    """Someone asked to stop."""


_Events = queue.SimpleQueue[_Ended | _StopRequested]


class _Child:
    """A `ChildSpec` across its restarts. `due` is the time of the next action: a start, or a kill while stopping."""

    def __init__(self, spec: ChildSpec, backoff: Backoff, events: _Events) -> None:
        self.spec = spec
        self.process: subprocess.Popen[bytes] | None = None
        self.due = math.inf
        self._backoff = backoff
        self._events = events
        self._started = 0.0

    def start(self) -> None:
        """Start the process. Must be called in the supervisor's main thread (`tied`)."""
        spec = self.spec
        with open_log(spec.log) as log:
            self.process = subprocess.Popen(
                tied(spec.argv, spec.orphan_signal),
                cwd=spec.folder,
                env=dict(spec.env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=spec.inherited_fds,
            )
        self.due, self._started = math.inf, time.monotonic()
        threading.Thread(target=self._wait, args=(self.process,), name=f"wait-{spec.name}", daemon=True).start()

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        status = process.wait()
        _kill_group(process.pid)  # its forked children must not outlive it or keep its port
        self._events.put(_Ended(self, status))

    def ended(self) -> tuple[float, float]:
        """Record the end; returns the duration of the run and the pause before the next start, in seconds."""
        self.process = None
        ran = time.monotonic() - self._started
        return ran, self._backoff.after_run_of(ran)

    def terminate(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.due = time.monotonic() + self.spec.stop_grace_s

    def kill(self) -> None:
        if self.process is not None and self.process.poll() is None:
            _kill_group(self.process.pid)
        self.due = math.inf


def _kill_group(leader: int) -> None:
    with suppress(ProcessLookupError, PermissionError):  # macOS answers EPERM for a group of zombies
        os.killpg(leader, signal.SIGKILL)


def _cause(status: int) -> str:
    return f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"


class Supervisor:
    """Runs the processes from `run` until `request_stop`. `say` gets one line for each event the user should know."""

    def __init__(
        self, specs: Sequence[ChildSpec], *, say: Callable[[str], None], backoff: Callable[[], Backoff] = Backoff
    ) -> None:
        self._events: _Events = queue.SimpleQueue()
        self._children = [_Child(spec, backoff(), self._events) for spec in specs]
        self._say = say
        self._stops = 0
        self.stopping = threading.Event()

    def run(self) -> None:
        """Start every process and keep it running; returns after a stop, when all have ended."""
        try:
            for child in self._children:
                child.start()
            while not self._stops:
                self._keep_running()
        finally:
            self.stopping.set()
            self._stop_in_order()

    def request_stop(self) -> None:
        """Begin to stop; a second call kills the remaining processes. Safe in any thread and in a signal handler."""
        self._events.put(_StopRequested())

    def pid(self, name: str) -> int | None:
        """Return the process id of the child with that name; None while it is not running."""
        process = next(child.process for child in self._children if child.spec.name == name)
        return None if process is None else process.pid

    def _keep_running(self) -> None:
        ended = self._next_end(self._children)
        if ended is not None:
            self._plan_restart(ended)
        for child in self._children:
            if child.due <= time.monotonic() and not self._stops:
                child.start()

    def _plan_restart(self, ended: _Ended) -> None:
        child = ended.child
        ran, pause = child.ended()
        child.due = time.monotonic() + pause
        said = last_line(child.spec.log)
        self._say(
            f"{child.spec.name} {_cause(ended.status)} after {ran:.1f} s; restarting it in {pause:g} s. "
            f"Log: {child.spec.log}" + (f" - last line: {said}" if said else "")
        )

    def _next_end(self, children: Sequence[_Child]) -> _Ended | None:
        """Wait for the next event, at most until one of `children` is due; stop requests are counted here."""
        due = min(child.due for child in children)
        try:
            event = self._events.get(timeout=None if due == math.inf else max(0.0, due - time.monotonic()))
        except queue.Empty:
            return None
        if isinstance(event, _Ended):
            return event
        self._stops += 1
        return None

    def _stop_in_order(self) -> None:
        for order in sorted({child.spec.stop_order for child in self._children}):
            self._stop_together([child for child in self._children if child.spec.stop_order == order])

    def _stop_together(self, group: Sequence[_Child]) -> None:
        for child in group:
            child.due = math.inf
            child.terminate()
        while any(child.process is not None for child in group):
            self._kill_overdue(group)
            ended = self._next_end(group)
            if ended is not None:
                ended.child.ended()

    def _kill_overdue(self, group: Sequence[_Child]) -> None:
        for child in group:
            if self._stops > 1:
                child.kill()
            elif child.due <= time.monotonic():
                self._say(f"{child.spec.name} did not stop within {child.spec.stop_grace_s:g} s; killing it")
                child.kill()
