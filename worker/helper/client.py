"""The worker's side of its helper."""

from __future__ import annotations

import itertools
import logging
import os
import subprocess
import sys
import threading
from concurrent.futures import Future
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

from common.errors import InternalError, SLMError
from common.settings import ROOT
from worker.given_up import GivenUp, IsGivenUp, never
from worker.helper.limits import Limits, OverLimit
from worker.helper.messages import Answer, Request, receive, send

LOOK_S = 0.02  # how soon a waiting thread learns that it was given up
TRIES = 2  # a request whose helper died beside it is asked once more
END_S = 5.0  # how long it may take to end its children
_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}

log = logging.getLogger(__name__)


class _HelperLost(Exception):
    """The helper process died."""


@dataclass(frozen=True, slots=True)
class _Process:
    """A helper process, and who waits for its answers, by the request's number."""

    popen: subprocess.Popen[bytes]
    link: Connection
    pending: dict[int, Future[Answer]] = field(default_factory=dict)


class Helper:
    """A helper process, started at the first request and again when it has died. Safe from several threads.

    Args:
        tasks: what it can do, as `module:class` of a `messages.Tasks` without arguments.
    """

    def __init__(self, tasks: str) -> None:
        self._tasks = tasks
        self._numbers = itertools.count()
        self._lock = threading.Lock()  # on the process and on what is sent; answers are taken without it
        self._process: _Process | None = None
        self._configuration: dict[str, Any] = {}
        self._is_closed = False

    def start(self) -> None:
        """Start the process, without waiting for it."""
        with self._lock:
            self._running()

    def configure(self, name: str, value: Any) -> None:
        """Tell it something that later requests need, now and whenever it starts anew."""
        with self._lock:
            self._configuration[name] = value
            if self._process is not None:
                _try_to_send(self._process, {"configure": name, "value": value})

    def call(self, task: str, args: Any, limits: Limits, given_up: IsGivenUp = never) -> Any:
        """Have the task done, and wait for its result.

        Raises:
            OverLimit: it took too much.
            GivenUp: `given_up` became true, or the helper was closed.
            SLMError: what the task raised.
        """
        for _ in range(TRIES):
            try:
                return _value(self._ask(task, args, limits, given_up))
            except _HelperLost:
                log.warning("the helper process died during %s", task)
        raise InternalError(f"The helper process died {TRIES} times.")

    def close(self) -> None:
        """End the process; whoever waits for it is let go."""
        with self._lock:
            self._is_closed = True
            process, self._process = self._process, None
            if process is not None:
                _try_to_send(process, {"end": True})
        if process is not None:
            _wait_or_kill(process.popen)

    def _ask(self, task: str, args: Any, limits: Limits, given_up: IsGivenUp) -> Answer:
        number, future = next(self._numbers), Future[Answer]()
        with self._lock:
            process = self._running()
            process.pending[number] = future
            _try_to_send(process, Request(number, task, args, limits).to_wire())
        while not given_up():
            try:
                return future.result(LOOK_S)
            except TimeoutError:
                continue
        with self._lock:
            _try_to_send(process, {"cancel": number})
        process.pending.pop(number, None)
        raise GivenUp

    def _running(self) -> _Process:
        """The process, started if need be. Raises `GivenUp` behind `close`."""
        if self._is_closed:
            raise GivenUp
        if self._process is None:
            self._process = _started(self._tasks)
            for name, value in self._configuration.items():
                _try_to_send(self._process, {"configure": name, "value": value})
            threading.Thread(target=self._read, args=(self._process,), name="slm-helper", daemon=True).start()
        return self._process

    def _read(self, process: _Process) -> None:
        """Hand out the answers until the process has ended; who still waits then is let go."""
        try:
            while True:
                answer = Answer(**receive(process.link))
                if (future := process.pending.pop(answer.number, None)) is not None:
                    future.set_result(answer)
        except (EOFError, OSError):
            process.popen.wait()
        with self._lock:  # from here on nobody asks this process
            if self._process is process:
                self._process = None
            process.link.close()
        for future in list(process.pending.values()):
            future.set_exception(GivenUp() if self._is_closed else _HelperLost())


def _started(tasks: str) -> _Process:
    ours, theirs = Pipe()
    with theirs:
        descriptor = theirs.fileno()
        command = [sys.executable, "-m", "worker.helper", str(descriptor), tasks]
        environment = os.environ | _ENVIRONMENT
        popen = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, pass_fds=[descriptor])
    return _Process(popen, ours)


def _try_to_send(process: _Process, message: dict[str, Any]) -> None:
    """What a process does not take it will not answer: whoever waits for it learns that it has died."""
    try:
        send(process.link, message)
    except OSError as err:
        log.info("the helper process takes no message: %s", err)


def _wait_or_kill(popen: subprocess.Popen[bytes]) -> None:
    try:
        popen.wait(END_S)
    except subprocess.TimeoutExpired:
        popen.kill()
        popen.wait()


def _value(answer: Answer) -> Any:
    if answer.over is not None:
        raise OverLimit(answer.over)
    if answer.error is not None:
        raise SLMError.from_dict(answer.error)
    return answer.value
