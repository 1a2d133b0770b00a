"""The interface of a compared system: it can be started, and it runs workloads."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

from benchmarks.rivals.process import Process
from benchmarks.serving import TIMEOUT_S, Client, Measured, Workload, run
from tests.free_port import free_port

LOCALHOST = "127.0.0.1"
THREADS = 2  # for every engine
CONTEXT = 2048  # tokens; enough for a long prompt and its response
DATA = b"data: "  # the start of a server-sent event's line


class Session(Protocol):
    """A running system."""

    @property
    def process(self) -> Process:
        """Its program."""

    def run(self, workload: Workload, number: int) -> Measured:
        """Run a workload once."""


class System(Protocol):
    """One of the compared systems."""

    @property
    def title(self) -> str:
        """Its name in the table."""

    def make(self, model: Path) -> None:
        """Create its environment, and convert the checkpoint in the folder `model` if it must; existing files are kept.

        Raises:
            deploy.bootstrap.SetupError, subprocess.CalledProcessError: a step failed; the console has its output.
        """

    def running(self, workload: Workload) -> AbstractContextManager[Session]:
        """Start it for the workload's clients, wait until it is ready, and stop it at the end."""


class HttpSession(NamedTuple):
    """A running HTTP server, and a function that connects a client to it."""

    process: Process
    connect: Callable[[], Client]

    def run(self, workload: Workload, number: int) -> Measured:
        """Run a workload once, each client with its own connection."""
        return run([self.connect() for _ in range(workload.clients)], workload, number)


@contextmanager
def post(port: int, path: str, body: Mapping[str, object]) -> Iterator[tuple[float, Iterable[bytes]]]:
    """Send a request over a connection of its own: its time on the performance counter, and the response's lines.

    Raises:
        RuntimeError: the server refused it.
        OSError, http.client.HTTPException: the connection broke.
    """
    with closing(http.client.HTTPConnection(LOCALHOST, port, timeout=TIMEOUT_S)) as connection:
        connection.connect()
        sent = time.perf_counter()
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        if answer.status != http.client.OK:
            raise RuntimeError(f"{answer.status}: {answer.read()!r}")
        yield sent, answer


@contextmanager
def serving(
    command: Sequence[str | Path],
    log: Path,
    connect: Callable[[int], Client],
    *,
    env: Mapping[str, str] | None = None,
    ready: str = "/health",
) -> Iterator[HttpSession]:
    """Start a server, wait until it is ready, and stop it at the end.

    Args:
        command: the program; a free port is its last argument.
        log: the file for its output.
        connect: returns a client of the port.
        env: variables in addition to this process's own.
        ready: the path that answers 200 when the server is ready.
    """
    port = free_port()
    with Process([*command, str(port)], log, env) as process:
        process.wait_until(lambda: is_answering(port, ready))
        yield HttpSession(process, lambda: connect(port))


def is_answering(port: int, path: str) -> bool:
    """Whether a server on this machine answers a GET with 200."""
    with closing(http.client.HTTPConnection(LOCALHOST, port, timeout=5)) as connection:
        try:
            connection.request("GET", path)
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
