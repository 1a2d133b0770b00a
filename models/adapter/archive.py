"""Unpacks an archive with one adapter, from an untrusted sender: bounded in size, and never outside of its folder.

A tar archive (plain or with gzip) or a zip archive has the adapter's files at its root, or in one folder there. Of all
entries only the files that count as an adapter's content (`common.content`) are written.
"""

from __future__ import annotations

import errno
import gzip
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from common.content import SUFFIXES
from models.adapter.config import CONFIG_FILE
from models.errors import AdapterError

MAX_ENTRIES = 1000
_CHUNK = 1 << 20
_ROOT = PurePosixPath(".")
_BROKEN = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, ValueError)


@dataclass(frozen=True, slots=True)
class _File:
    """A file in an archive."""

    path: PurePosixPath
    open: Callable[[], IO[bytes]]


def unpack_adapter(archive: Path, target: Path, max_bytes: int) -> Path:
    """Unpack an adapter below the empty folder `target`, and return the folder with its files.

    An archive with an adapter at its root may have further folders, such as checkpoints.

    Raises:
        AdapterError: the archive is broken, too large, or does not hold exactly one adapter; the text says what is
            wrong. `target` may then hold some files.
        OSError: the disk is full.
    """
    try:
        folders = _unpacked(archive, target, max_bytes)
    except _BROKEN as err:
        if isinstance(err, OSError) and err.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise AdapterError(f"The archive cannot be read: {str(err) or type(err).__name__}.") from err
    adapters = {path: folder for path, folder in folders.items() if (folder / CONFIG_FILE).is_file()}
    if _ROOT in adapters:
        return adapters[_ROOT]
    if len(adapters) != 1:
        found = " and ".join(repr(str(path)) for path in sorted(adapters)[:3])
        raise AdapterError(
            f"The archive must hold one adapter: {CONFIG_FILE} at its root or in one folder at its root. "
            + (f"It has adapters in {found}." if found else f"There is no {CONFIG_FILE} in either place.")
        )
    return next(iter(adapters.values()))


def _unpacked(archive: Path, target: Path, max_bytes: int) -> dict[PurePosixPath, Path]:
    """Return the folders of the archive with files that count, and where they were written to."""
    room, folders = max_bytes, dict[PurePosixPath, Path]()
    for file in _files(archive):
        if len(file.path.parts) > 2 or file.path.name.startswith(".") or file.path.suffix not in SUFFIXES:
            continue
        folder = folders.setdefault(file.path.parent, target / str(len(folders)))
        folder.mkdir(mode=0o700, exist_ok=True)
        with file.open() as content:
            size = _written(content, folder / file.path.name, room)
        if size > room:
            raise AdapterError(f"The adapter's files are larger than {max_bytes} bytes (SLM_MAX_ADAPTER_BYTES).")
        room -= size
    return folders


def _written(content: IO[bytes], file: Path, room: int) -> int:
    """Write a file until it exceeds `room` bytes; return how many were read."""
    size = 0
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as err:
        raise AdapterError(f"The archive holds {file.name!r} twice.") from err
    with os.fdopen(descriptor, "wb") as out:
        while size <= room and (chunk := content.read(_CHUNK)):
            size += len(chunk)
            out.write(chunk)
    return size


def _files(archive: Path) -> Iterator[_File]:
    """Yield the files, after checking all entries up to each of them."""
    with archive.open("rb") as file:
        start = file.read(2)
    entries = _of_zip(archive) if start == b"PK" else _of_tar(archive, is_compressed=start == b"\x1f\x8b")
    for number, (name, opener) in enumerate(entries):
        if number >= MAX_ENTRIES:
            raise AdapterError(f"The archive holds more than {MAX_ENTRIES} entries.")
        path = _checked(name)
        if opener is not None:
            yield _File(path, opener)


_Entry = tuple[str, "Callable[[], IO[bytes]] | None"]  # name, and how to open it; None for a folder


def _checked(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or any(character in name for character in "\\:\0"):
        raise AdapterError(f"The archive holds an entry named {name[:100]!r}, which may lead out of its folder.")
    return path


def _of_zip(archive: Path) -> Iterator[_Entry]:
    with zipfile.ZipFile(archive) as entries:
        for info in entries.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise AdapterError(f"The archive holds {info.filename[:100]!r}, which is a link or a device.")
            if info.flag_bits & 1:
                raise AdapterError("The archive is encrypted.")
            yield info.filename, None if info.is_dir() else partial(entries.open, info)


def _of_tar(archive: Path, *, is_compressed: bool) -> Iterator[_Entry]:
    """Read the archive as a stream, so that no header can make us read a part of it twice."""
    with (
        gzip.GzipFile(archive) if is_compressed else archive.open("rb") as stream,
        tarfile.open(fileobj=stream, mode="r|") as entries,
    ):
        for info in entries:
            if not info.isdir() and (not info.isreg() or info.issparse()):
                kind = "a link, a device or a sparse file"
                raise AdapterError(f"The archive holds {info.name[:100]!r}, which is {kind}.")
            yield info.name, None if info.isdir() else partial(_opened, entries, info)


def _opened(entries: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    content = entries.extractfile(info)
    if content is None:
        raise AdapterError(f"The archive holds {info.name[:100]!r}, which is not a file.")
    return content
