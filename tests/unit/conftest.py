"""A unit test only computes: it starts no process, opens no socket and runs no compiler."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

FORBIDDEN = {
    "subprocess.Popen",
    "os.exec",
    "os.fork",
    "os.forkpty",
    "os.posix_spawn",
    "os.system",
    "socket.bind",
    "socket.connect",
    "socket.getaddrinfo",
}


@pytest.fixture(scope="session")
def _audited() -> list[str]:
    """Records forbidden actions; Python's audit hooks cannot be removed."""
    seen: list[str] = []

    def note(event: str, args: tuple[object, ...]) -> None:
        if event in FORBIDDEN:
            seen.append(f"{event}{args}")

    sys.addaudithook(note)
    return seen


@pytest.fixture(autouse=True)
def _only_computes(_audited: list[str]) -> Iterator[None]:
    _audited.clear()
    yield
    assert _audited == [], "a unit test only computes; tests of processes and sockets belong in another layer"
