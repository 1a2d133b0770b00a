"""Opens and rotates the log files of the supervised processes, and echoes them to the console.

The processes write directly to their files. If the supervisor relayed their output, a blocked console (Ctrl-S, a full
pipe) would stop the server.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

ROTATE_BYTES = 5_000_000
KEPT = 3  # older files beside the current one
FOLLOW_EVERY_S = 0.2

# Level names of Python's loggers, and the last line of a traceback. "# WARNING" is Redis's advice to administrators.
_IMPORTANT = re.compile(r"(?<!# )\b(WARNING|ERROR|CRITICAL)\b|^[\w.]+(Error|Exception)\b")


def open_log(path: Path) -> IO[bytes]:
    """Open the log of a process that is about to start; a large one is first rotated to `.1`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.stat().st_size > ROTATE_BYTES:
        _rotate(path)
    return path.open("ab")


def _rotate(path: Path) -> None:
    for number in range(KEPT, 0, -1):
        older = path if number == 1 else path.with_name(f"{path.name}.{number - 1}")
        if older.exists():
            older.replace(path.with_name(f"{path.name}.{number}"))


def last_line(path: Path) -> str:
    """Return the last non-empty line, or ''."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4096))
        lines = file.read().decode("utf-8", "replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def is_important(line: str) -> bool:
    """Whether the line is a warning or worse, or the last line of a traceback."""
    return _IMPORTANT.search(line) is not None


class LogTail:
    """Reads the lines added to a file from now on, across rotations."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = path.stat().st_size if path.exists() else 0
        self._rest = b""

    def read_lines(self) -> list[str]:
        """Return the lines completed since the last call."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            if self._path.stat().st_size < self._position:
                self._position, self._rest = 0, b""
            file.seek(self._position)
            data = self._rest + file.read()
            self._position = file.tell()
        *lines, self._rest = data.split(b"\n")
        return [line.decode("utf-8", "replace") for line in lines]


class LogEcho(threading.Thread):
    """Follows the log files and says each line, prefixed with the process's name."""

    def __init__(self, logs: Mapping[str, Path], shows: Callable[[str], bool], say: Callable[[str], None]) -> None:
        super().__init__(name="log-echo", daemon=True)
        self._tails = {name: LogTail(path) for name, path in logs.items()}
        self._shows = shows
        self._say = say
        self._stopped = threading.Event()

    def run(self) -> None:
        """Follow until `stop`."""
        while not self._stopped.wait(FOLLOW_EVERY_S):
            self._echo()
        self._echo()

    def stop(self) -> None:
        """Say the remaining lines and end."""
        self._stopped.set()
        self.join()

    def _echo(self) -> None:
        for name, tail in self._tails.items():
            for line in tail.read_lines():
                if self._shows(line):
                    self._say(f"{name}: {line}")
