"""Archives of adapters on their way from a client to a worker, as files in the data folder.

The API writes an archive, and the job that publishes it names it; the worker deletes it when the job has ended. An
archive of a killed process is deleted by the next process that tidies up.
"""

from __future__ import annotations

import fcntl
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

KEEP_S = 3600.0  # a job that could not run for this long has to be submitted again
_PARTIAL = ".partial"


@dataclass(frozen=True, slots=True)
class Upload:
    """An archive that is being received; `file` is open for writing."""

    id: str
    file: BinaryIO


class Uploads:
    """The archives in one folder, which several processes use."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def receive(self) -> Iterator[Upload]:
        """Open a new private file; after the `with` block it can be found, or is gone if an exception was raised."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        upload_id = str(uuid.uuid4())
        partial = self._folder / f"{upload_id}{_PARTIAL}"
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                fcntl.flock(file, fcntl.LOCK_EX)  # until it is closed; so it is known to be in use
                yield Upload(upload_id, file)
                partial.rename(self.path(upload_id))
        finally:
            partial.unlink(missing_ok=True)

    def path(self, upload_id: str) -> Path:
        """Return the path of an archive; it exists only until it has been published, or for `KEEP_S`."""
        return self._folder / upload_id

    def remove(self, upload_id: str) -> None:
        """Delete an archive, if it is still there."""
        self.path(upload_id).unlink(missing_ok=True)

    def tidy(self) -> None:
        """Delete the archives of killed processes, and those that no job has taken for `KEEP_S`."""
        if not self._folder.is_dir():
            return
        for path in self._folder.iterdir():
            with suppress(OSError):  # another process was faster
                if _is_abandoned(path) if path.suffix == _PARTIAL else time.time() - path.stat().st_mtime > KEEP_S:
                    path.unlink()


def _is_abandoned(partial: Path) -> bool:
    """Return whether no process has the file open, which the system knows by its lock."""
    with partial.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
