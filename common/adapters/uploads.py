"""Files of adapters on their way to a worker or to the API, in the data folder.

The API writes a client's archive under the id of the job that publishes it; the worker deletes it when the job has
ended. A single file that a worker of another host sends has its hash as its id. A file of a killed process is deleted
by the next process that tidies up.
"""

from __future__ import annotations

import fcntl
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

KEEP_S = 3600.0  # how long a file that no open job needs is kept
_PARTIAL = ".partial"


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that is being received; `file` is open for writing."""

    id: str
    file: BinaryIO


class Uploads:
    """The files in one folder, which several processes use."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def receive(self, upload_id: str | None = None) -> Iterator[Upload]:
        """Open a new private file; after the `with` block it can be found, or is gone if an exception was raised.

        Its id is a new UUID unless one is given.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        upload_id = upload_id or str(uuid.uuid4())
        partial = self._folder / f"{uuid.uuid4()}{_PARTIAL}"
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                fcntl.flock(file, fcntl.LOCK_EX)  # until it is closed; so it is known to be in use
                yield Upload(upload_id, file)
                partial.rename(self.path(upload_id))
        finally:
            partial.unlink(missing_ok=True)

    def path(self, upload_id: str) -> Path:
        """Return the path of a file; it exists only until the archive has been published, or for `KEEP_S`."""
        return self._folder / upload_id

    def remove(self, upload_id: str) -> None:
        """Delete a file, if it is still there."""
        self.path(upload_id).unlink(missing_ok=True)

    def tidy(self, is_open: Callable[[str], bool]) -> None:
        """Delete the files of killed processes, and those that are older than `KEEP_S` and no open job's archive.

        `is_open` says whether there is an open job of that id.
        """
        with suppress(FileNotFoundError):
            for path in self._folder.iterdir():
                self._tidy(path, is_open)

    def _tidy(self, path: Path, is_open: Callable[[str], bool]) -> None:
        with suppress(OSError):  # another process was faster
            if _is_abandoned(path) if path.suffix == _PARTIAL else _is_old(path) and not is_open(path.name):
                path.unlink()


def _is_old(path: Path) -> bool:
    return time.time() - path.stat().st_mtime > KEEP_S


def _is_abandoned(partial: Path) -> bool:
    """Return whether no process has the file open, which the system knows by its lock."""
    with partial.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
