"""What every compared system is to the benchmark: something that can be started, and run workloads."""

from __future__ import annotations

import http.client
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from typing import NamedTuple, Protocol

from benchmarks.rivals.process import Process
from benchmarks.serving import Client, Measured, Workload, run

LOCALHOST = "127.0.0.1"
THREADS = 2  # of every engine
CONTEXT = 2048  # tokens of a long prompt and its answer fit


class Session(Protocol):
    """A system that runs."""

    @property
    def process(self) -> Process:
        """Its program."""

    def run(self, workload: Workload, number: int) -> Measured:
        """Run a workload once."""


class System(Protocol):
    """One of the compared systems."""

    @property
    def title(self) -> str:
        """How the table names it."""

    def running(self, workload: Workload) -> AbstractContextManager[Session]:
        """Start it, fit for the workload's clients, wait until it is ready, and stop it in the end."""


class HttpSession(NamedTuple):
    """A running HTTP server, and how a client connects to it."""

    process: Process
    connect: Callable[[], Client]

    def run(self, workload: Workload, number: int) -> Measured:
        """Run a workload once, each client with a connection of its own."""
        return run([self.connect() for _ in range(workload.clients)], workload, number)


def is_answering(port: int, path: str) -> bool:
    """Whether a server of this machine answers a GET with 200."""
    with closing(http.client.HTTPConnection(LOCALHOST, port, timeout=5)) as connection:
        try:
            connection.request("GET", path)
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
