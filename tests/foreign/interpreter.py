"""Runs programs in the environment of foreign packages, one after the other: their imports take seconds.

A line of standard input is a program, as JSON; a line of standard output is its result. In a program `out(value)`
adds to that. Standard library only.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from typing import Any

LOOPBACK = {"127.0.0.1", "::1", "localhost"}


class Guard:
    """Keeps this process from reaching other machines, and remembers the refused addresses."""

    def __init__(self) -> None:
        self._refused: list[str] = []

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        """An audit hook."""
        if event == "socket.getaddrinfo":
            self._check(args[0])
        elif event == "socket.connect" and isinstance(args[1], tuple):
            self._check(args[1][0])

    def taken(self) -> list[str]:
        """Return the machines refused since the last call."""
        refused, self._refused = self._refused, []
        return refused

    def _check(self, host: object) -> None:
        name = host.decode() if isinstance(host, bytes) else host
        if name is not None and name not in LOOPBACK:
            self._refused.append(str(name))
            raise OSError(f"{name} is another machine")


def run(program: str, guard: Guard) -> dict[str, Any]:
    """Return the program's values, its traceback if it failed, and the machines that it tried to reach."""
    found: list[Any] = []
    failure = None
    try:
        exec(program, {"out": found.append})  # the tests' own programs
    except Exception:
        failure = traceback.format_exc()
    return {"found": found, "failure": failure, "refused": guard.taken()}


def main() -> None:
    """Run until the input ends. The packages print to standard error."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    guard = Guard()
    sys.addaudithook(guard)
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line), guard)), file=replies, flush=True)


if __name__ == "__main__":
    main()
