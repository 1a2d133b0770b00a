"""Keeps the files of adapters by their content: `<folder>/<id>/` is whole or absent, and never changes.

The id is the SHA-256 of the files (`common.content`). An adapter is copied under a temporary name, which a dot begins,
written to the disk, and only then renamed.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from common.content import SUFFIXES, ContentHashes
from models.errors import AdapterError

_PRIVATE = 0o700


class AdapterStore:
    """The adapters on this machine. Thread-safe; several processes may use the same folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._hashes = ContentHashes()

    def folder(self, adapter_id: str) -> Path:
        """Return the folder of an adapter, after checking its files unless they were checked before.

        Raises:
            AdapterError: the adapter is not here, or its files were damaged.
        """
        found = self._folder / adapter_id
        if not found.is_dir():
            raise AdapterError(f"The files of adapter {adapter_id[:12]} are not in {str(self._folder)!r}.")
        if not self._is_intact(adapter_id):
            raise AdapterError(
                f"The files of adapter {adapter_id[:12]} in {str(found)!r} are damaged: upload it again."
            )
        return found

    def ids(self) -> set[str]:
        """Return the ids of all adapters that are here."""
        if not self._folder.is_dir():
            return set()
        return {path.name for path in self._folder.iterdir() if path.is_dir() and not path.name.startswith(".")}

    def keep(self, source: Path) -> str:
        """Copy an adapter into the store, if it is not there yet, and return its id.

        The copy counts if the files of `source` change meanwhile. Call it while `locked`.

        Raises:
            OSError: a file cannot be read or written.
        """
        known = self._hashes.of_folder(source)
        if known in self.ids() and self._is_intact(known):
            return known
        with self.scratch() as scratch:
            adapter_id = _copied(source, scratch)
            shutil.rmtree(self._folder / adapter_id, ignore_errors=True)
            scratch.rename(self._folder / adapter_id)
            _sync(self._folder)
        return adapter_id

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """Make a private empty folder in the store, and delete it after the `with` block. Call it while `locked`."""
        folder = self._folder / f".{uuid.uuid4()}.partial"
        folder.mkdir(mode=_PRIVATE)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def remove(self, adapter_id: str) -> None:
        """Delete an adapter, if it is here. Call it while `locked`."""
        shutil.rmtree(self._folder / adapter_id, ignore_errors=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Exclude all other processes and threads that change the store; for the duration of a `with` block."""
        from filelock import FileLock

        self._folder.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
        with FileLock(self._folder / ".lock"):
            yield

    def has_leftovers(self) -> bool:
        """Return whether there are unfinished copies; of a killed process, unless the store is locked."""
        return any(self._leftovers())

    def tidy(self) -> None:
        """Delete what killed processes left behind. Call it while `locked`."""
        for path in self._leftovers():
            shutil.rmtree(path, ignore_errors=True)

    def _leftovers(self) -> list[Path]:
        return list(self._folder.glob(".*.partial"))

    def _is_intact(self, adapter_id: str) -> bool:
        try:
            return self._hashes.of_folder(self._folder / adapter_id) == adapter_id
        except OSError:
            return False


def _copied(source: Path, target: Path) -> str:
    """Copy the files that count to an empty folder, down to the disk; return the hash of the copies."""
    for path in sorted(source.iterdir()):
        if path.suffix in SUFFIXES and path.is_file():
            copy = target / path.name
            with path.open("rb") as content, open(copy, "xb", opener=_private) as file:
                shutil.copyfileobj(content, file)
                file.flush()
                os.fsync(file.fileno())
    _sync(target)
    return ContentHashes().of_folder(target)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _sync(folder: Path) -> None:
    """Write the folder's entries to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
