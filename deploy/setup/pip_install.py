"""Runs pip for the set-up: logs its output and shows its progress as one line. Standard library only."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from common.environment import ours
from deploy.launch import tied

LAST_LINES = 200
_MEGABYTE = 1_000_000
_LARGE = 10 * _MEGABYTE  # from this size on, the progress of a download is shown

_DOWNLOADING = re.compile(r"\s*Downloading (?:\S*/)?([A-Za-z0-9._]+?)-\d\S*\.(?:whl|tar\.gz|zip) \(([\d.]+) ([kMG])B\)")
_INSTALLING = re.compile(r"Installing collected packages: (.*)")
_BYTES = {"k": 1_000, "M": 1_000_000, "G": 1_000_000_000}


class PipProgress:
    """pip's current step, derived from the lines that it prints and the files that it writes.

    Args:
        temporary: pip's download folder.
        packages: the environment's package folder.
    """

    def __init__(self, temporary: Path, packages: Path) -> None:
        self._temporary = temporary
        self._packages = packages
        self._found = 0
        self._download: tuple[str, int, int] | None = None  # name, its size, and the bytes downloaded before it
        self._installing: frozenset[str] = frozenset()

    def note(self, line: str) -> None:
        """Take one line of pip's output."""
        if line.startswith("Collecting "):
            self._found += 1
        elif match := _DOWNLOADING.match(line):
            size = int(float(match[2]) * _BYTES[match[3]])
            self._download = (match[1], size, _bytes_in(self._temporary))
        elif match := _INSTALLING.match(line):
            self._installing = frozenset(map(_normal, match[1].split(", ")))

    @property
    def is_installing(self) -> bool:
        """Whether pip has begun to change the environment."""
        return bool(self._installing)

    def __str__(self) -> str:
        if self._installing:
            there = {_normal(path.name.partition("-")[0]) for path in self._packages.glob("*.dist-info")}
            return f"unpacking {len(there & self._installing)} of {len(self._installing)} packages"
        found = f"{self._found} packages found"
        if self._download is None:
            return found
        name, size, before = self._download
        if size < _LARGE:
            return f"{found}, fetching {name}"
        done = min(_bytes_in(self._temporary) - before, size)
        return f"{found}, fetching {name}: {done // _MEGABYTE} of {size // _MEGABYTE} MB"


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def _bytes_in(folder: Path) -> int:
    """Return the size of all files below `folder`; pip may remove some at the same time."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(Path(parent) / name).st_size
            except OSError:
                continue
    return total


def run_pip(
    python: Path,
    arguments: Sequence[str],
    *,
    log: Path,
    temporary: Path,
    note: Callable[[str], None],
    lock: int,
) -> list[str] | None:
    """Run the pip of the environment of `python`. Returns None if it succeeded, else its last lines.

    pip ends with this process (`tied`), or keeps `lock` until it has ended.

    Args:
        log: file to which its output is appended.
        temporary: its download folder, emptied before and afterwards. The system's temporary folder is often small.
        note: called with each line of output.
    """
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    command = tied([str(python), "-m", "pip", *arguments])
    last: deque[str] = deque(maxlen=LAST_LINES)
    try:
        with (
            log.open("a", encoding="utf-8", buffering=1) as kept,
            subprocess.Popen(
                command,
                env=_environment(temporary),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                pass_fds=(lock,),
            ) as pip,
        ):
            for line in pip.stdout or ():
                kept.write(line)
                last.append(line)
                note(line)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return None if pip.returncode == 0 else list(last)


def _environment(temporary: Path) -> Mapping[str, str]:
    """Keep the user's index, proxies and certificates, but decide where and how pip installs."""
    decided = {
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_INPUT": "1",
        "PIP_PROGRESS_BAR": "off",
        "PIP_ROOT_USER_ACTION": "ignore",
        "PIP_USER": "0",
        "PYTHONUNBUFFERED": "1",
        "TMPDIR": str(temporary),
    }
    return ours(os.environ) | decided
