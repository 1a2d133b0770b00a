"""Keeps the files of adapters by their content: `<folder>/<id>/` is whole or absent, and never changes.

The id is the SHA-256 of the files (`common.content`). An adapter is written under a temporary name, which a dot begins,
down to the disk, and only then renamed.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from common.content import SUFFIXES, ContentHashes, files_of, hash_of

_PRIVATE = 0o700
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


class AdapterFilesError(Exception):
    """The files of an adapter are not here, or are not those that its id stands for; the text says which."""


@dataclass(frozen=True, slots=True)
class Content:
    """The files of an adapter that do not change any more."""

    id: str
    folder: Path


@dataclass(frozen=True, slots=True)
class HashedFile:
    """A private file in the store's file system, and the SHA-256 of its content in hex."""

    path: Path
    sha256: str


class AdapterStore:
    """The adapters on this machine. Thread-safe; several processes may use the same folder.

    Every method may raise `OSError` if a file cannot be read or written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._hashes = ContentHashes()

    def folder(self, adapter_id: str) -> Path:
        """Return the folder of an adapter, after checking its files unless they were checked before.

        Raises:
            AdapterFilesError: the adapter is not here, or its files were damaged.
        """
        found = self._folder / adapter_id
        if not found.is_dir():
            raise AdapterFilesError(f"The files of adapter {adapter_id[:12]} are not in {str(self._folder)!r}.")
        if not self._is_intact(adapter_id):
            raise AdapterFilesError(
                f"The files of adapter {adapter_id[:12]} in {str(found)!r} are damaged: upload it again."
            )
        return found

    def files(self, adapter_id: str) -> list[Path]:
        """Return the files of an adapter, sorted by name; empty if it is not here. Does not read them."""
        if not (folder := self._folder / adapter_id).is_dir():
            return []
        return files_of(folder)

    def has(self, adapter_id: str) -> bool:
        """Return whether an adapter is here. Does not check its files."""
        return (self._folder / adapter_id).is_dir()

    def ids(self) -> set[str]:
        """Return the ids of all adapters that are here."""
        if not self._folder.is_dir():
            return set()
        return {path.name for path in self._folder.iterdir() if path.is_dir() and not path.name.startswith(".")}

    @contextmanager
    def copied(self, source: Path) -> Iterator[Content]:
        """Copy an adapter for the duration of a `with` block; if the store has it already, yield that instead.

        So a later change of `source` does not matter. `put` makes the copy stay.
        """
        known = self._hashes.of_folder(source)
        if known in self.ids() and self._is_intact(known):
            yield Content(known, self._folder / known)
            return
        with self.scratch() as scratch:
            yield Content(_copied(source, scratch), scratch)

    def was_deleted(self, content: Content) -> bool:
        """Return whether `copied` has yielded the store's own adapter, and somebody has deleted that since."""
        return content.folder == self._folder / content.id and not self._is_intact(content.id)

    def put(self, content: Content) -> None:
        """Add what `copied` has yielded, unless another process was faster. Call it while `locked`.

        Raises:
            AdapterFilesError: it was deleted from the store meanwhile.
        """
        target = self._folder / content.id
        if content.folder != target:
            if not self._is_intact(content.id):  # otherwise somebody may be reading it
                shutil.rmtree(target, ignore_errors=True)
                content.folder.rename(target)
                _sync(self._folder)
        elif not target.is_dir():
            raise AdapterFilesError(f"The files of adapter {content.id[:12]} were deleted meanwhile. Publish it again.")

    def receive(self, adapter_id: str, fill: Callable[[Path], None]) -> None:
        """Add an adapter whose files `fill` writes to an empty folder; do nothing if it is here by then.

        Of several processes that receive the same adapter, one calls `fill` while the others wait.

        Raises:
            AdapterFilesError: the files are others than those of the adapter.
        """
        with self._receiving(adapter_id):
            if adapter_id in self.ids() and self._is_intact(adapter_id):
                return
            with self.scratch() as scratch:
                fill(scratch)
                _sync_files(scratch)
                if (found := ContentHashes().of_folder(scratch)) != adapter_id:
                    raise AdapterFilesError(f"The files are those of {found[:12]}, not of adapter {adapter_id[:12]}.")
                with self.locked():
                    self.put(Content(adapter_id, scratch))

    def assemble(self, files: Mapping[str, HashedFile]) -> str:
        """Add the adapter that has files of these names, which stay where they are; return its id.

        Raises:
            AdapterFilesError: a name is not one that an adapter's file has, or a file does not exist.
        """
        if wrong := [name for name in files if not _FILE_NAME.fullmatch(name) or Path(name).suffix not in SUFFIXES]:
            raise AdapterFilesError(f"{wrong[0][:80]!r} is not a name of an adapter's file.")
        adapter_id = hash_of({name: file.sha256 for name, file in files.items()})
        with self.scratch() as scratch:
            for name, file in files.items():
                try:
                    os.link(file.path, scratch / name)
                except FileNotFoundError as err:
                    raise AdapterFilesError(
                        f"The file {name!r} with the hash {file.sha256} has not been sent."
                    ) from err
            _sync_files(scratch)
            with self.locked():
                self.put(Content(adapter_id, scratch))
        return adapter_id

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """Make a private empty folder in the store, and delete it after the `with` block."""
        folder = self._folder / f".{uuid.uuid4()}.partial"
        with self.locked():  # nobody tidies up before it is known to be in use
            folder.mkdir(mode=_PRIVATE)
            descriptor = os.open(folder, os.O_RDONLY)
            fcntl.flock(descriptor, fcntl.LOCK_EX)  # until it is closed
        try:
            yield folder
        finally:
            os.close(descriptor)
            shutil.rmtree(folder, ignore_errors=True)

    def remove(self, adapter_id: str) -> None:
        """Delete an adapter, if it is here. Call it while `locked`."""
        shutil.rmtree(self._folder / adapter_id, ignore_errors=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Exclude all other processes and threads that add or delete adapters; for the duration of a `with` block."""
        with self._lock(".lock"):
            yield

    def has_leftovers(self) -> bool:
        """Return whether killed processes left unfinished copies behind."""
        return any(map(_is_abandoned, self._partials()))

    def tidy(self) -> None:
        """Delete what killed processes left behind. Call it while `locked`."""
        for path in filter(_is_abandoned, self._partials()):
            shutil.rmtree(path, ignore_errors=True)

    def _partials(self) -> list[Path]:
        return list(self._folder.glob(".*.partial"))

    @contextmanager
    def _receiving(self, adapter_id: str) -> Iterator[None]:
        name = f".{adapter_id}.receiving"
        with self._lock(name):
            try:
                yield
            finally:
                (self._folder / name).unlink(missing_ok=True)

    @contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        self._folder.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
        descriptor = os.open(self._folder / name, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _is_intact(self, adapter_id: str) -> bool:
        try:
            return self._hashes.of_folder(self._folder / adapter_id) == adapter_id
        except OSError:
            return False


def _is_abandoned(partial: Path) -> bool:
    """Return whether no process works on the folder, which the system knows by its lock."""
    with suppress(FileNotFoundError):
        descriptor = os.open(partial, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(descriptor)
        return True
    return False


def _copied(source: Path, target: Path) -> str:
    """Copy the files that count to an empty folder, down to the disk; return the hash of the copies."""
    for path in files_of(source):
        with path.open("rb") as content, open(target / path.name, "xb", opener=_private) as file:
            shutil.copyfileobj(content, file)
    _sync_files(target)
    return ContentHashes().of_folder(target)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _sync_files(folder: Path) -> None:
    """Write the folder's files to the disk."""
    for path in (*folder.iterdir(), folder):
        _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
