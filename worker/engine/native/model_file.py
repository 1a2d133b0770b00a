"""Keeps a packed model in a file. Workers map it: they share its pages, and a page that nobody uses takes no memory."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import mmap
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np

from worker.engine.native.memory import Memory

logger = logging.getLogger(__name__)

VERSION = 1  # of the file and of the packed layout: count up when one of them changes
ALIGNMENT = 64  # bytes, of the content and of each of its parts
MAX_FILES = 8  # in a folder: models, number formats, kernel sets; the one that was not used for the longest time goes
MAX_HEADER = 64 << 20  # bytes; it includes the tokenizer
_CHUNK = 1 << 20
_ABANDONED_S = 3600  # after this time, the unfinished file of a process that was killed is deleted
_PREFIX, _SUFFIX = "model-", ".bin"


def model_file(folder: Path, key: str) -> Path:
    """Return the file of a model in a folder; the key describes everything that its content depends on."""
    return folder / f"{_PREFIX}{hashlib.sha256(f'{VERSION} {key}'.encode()).hexdigest()[:32]}{_SUFFIX}"


class MappedModel:
    """The content of a file, read-only.

    `facts` is what it was written with. `address` is of the first part; the others follow, each aligned.
    """

    facts: dict[str, Any]
    address: int

    def __init__(self, facts: dict[str, Any], content: BufferedReader, begin: int) -> None:
        self.facts = facts
        self._file, self._begin = os.dup(content.fileno()), begin
        self._map = mmap.mmap(self._file, 0, access=mmap.ACCESS_READ)
        self._bytes = np.frombuffer(self._map, np.uint8)
        self.address = self._bytes.ctypes.data + begin

    def copy(self, offset: int, size: int) -> Memory:
        """Return a copy of a part of the content, in large pages. Raises `OSError`."""
        memory = Memory(size)
        with memory.view() as target:
            done = 0
            while done < size:
                done += (count := os.preadv(self._file, [target[done:]], self._begin + offset + done))
                if not count:
                    raise OSError("the file of a prepared model has become shorter")
        return memory

    def close(self) -> None:
        """Unmap the file. Nothing may use the content afterwards."""
        del self._bytes
        self._map.close()
        os.close(self._file)


def write_model(file: Path, facts: dict[str, Any], parts: Sequence[memoryview]) -> None:
    """Write the file, which appears whole or not at all, and delete old ones. Raises `OSError`."""
    described = json.dumps(facts)
    header = json.dumps({"facts": described, "sha256": _digest(described, _padded(parts))}).encode()
    partial = file.with_name(f".{file.name}.{uuid.uuid4()}")
    try:
        with open(partial, "xb", opener=_private) as out:
            out.write(header + b" " * (-(len(header) + 1) % ALIGNMENT) + b"\n")
            out.writelines(_padded(parts))
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
    _delete_old(file.parent)


def map_model(file: Path) -> MappedModel | None:
    """Check the file and map it; None if there is none or it is damaged."""
    try:
        with file.open("rb") as content:
            found = _checked(content)
            if found is None:
                logger.warning("the prepared model %s is damaged and is made again", file)
                return None
            mapped = MappedModel(*found)
    except OSError:
        return None
    with contextlib.suppress(OSError):  # in a read-only folder
        os.utime(file)  # used last
    return mapped


def _checked(content: BufferedReader) -> tuple[dict[str, Any], BufferedReader, int] | None:
    try:
        header = json.loads(content.readline(MAX_HEADER))
        described, expected = header["facts"], header["sha256"]
        begin = content.tell()
        # Read rather than mapped: pages that are only checked do not become part of this process.
        if _digest(described, iter(lambda: content.read(_CHUNK), b"")) != expected:
            return None
        return json.loads(described), content, begin
    except (ValueError, LookupError, TypeError):
        return None


def offsets(sizes: Sequence[int]) -> list[int]:
    """Return where the parts of these sizes begin in the content."""
    found, end = [], 0
    for size in sizes:
        found.append(end)
        end += size + -size % ALIGNMENT
    return found


def _padded(parts: Sequence[memoryview]) -> Iterator[memoryview | bytes]:
    for part in parts:
        yield part
        yield bytes(-part.nbytes % ALIGNMENT)


def _digest(described: str, content: Iterator[memoryview | bytes]) -> str:
    digest = hashlib.sha256(described.encode())
    for part in content:
        digest.update(part)
    return digest.hexdigest()


def _delete_old(folder: Path) -> None:
    """Delete the files that were not used for the longest time, and abandoned ones. Processes keep what they map."""
    with contextlib.suppress(OSError):  # another worker deletes at the same time
        ages = {file: file.stat().st_mtime for file in folder.glob(f"{_PREFIX}*{_SUFFIX}")}
        for file in sorted(ages, key=ages.__getitem__, reverse=True)[MAX_FILES:]:
            file.unlink(missing_ok=True)
        for file in folder.glob(f".{_PREFIX}*{_SUFFIX}.*"):
            if file.stat().st_mtime < time.time() - _ABANDONED_S:
                file.unlink(missing_ok=True)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
