"""Keeps a packed adapter in a file, from which it is read many times faster than it is checked and packed."""

from __future__ import annotations

import hashlib
import json
import os
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from worker.engine.native.memory import Memory

VERSION = 1  # of the file and of the packed layout: count up when one of them changes, or the check of adapters
MAX_HEADER = 1 << 20
PREFIX, SUFFIX = "packed-", ".bin"
UNUSED_S = 30 * 86_400  # files of other versions, bases and formats are deleted if nobody has read them for that long


@dataclass(frozen=True, slots=True)
class PackedLayout:
    """Where the matrices of a packed adapter are, and their shapes.

    `tensors` has (part, module or number of the matrix, size in bytes) in the order of the memory; a module's shape is
    its rank and its number of outputs.
    """

    tensors: Sequence[tuple[str, str | int, int]]
    modules: dict[str, tuple[int, int]]
    embeddings: dict[str, tuple[int, int]]


def write_packed(file: Path, layout: PackedLayout, memory: Memory) -> None:
    """Write the file, which appears whole or not at all, and delete unused ones beside it. Raises `OSError`."""
    described = json.dumps(asdict(layout))
    header = json.dumps({"layout": described, "size": memory.size, "sha256": _digest(described, memory)})
    partial = file.with_name(f".{file.name}.{uuid.uuid4()}")
    try:
        with open(partial, "xb", opener=_private) as out:
            out.write(header.encode() + b"\n")
            out.write(memory.view())
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
    _delete_unused(file.parent)


def packed_name(described: str) -> str:
    """Return the name of the file of an adapter that was packed in the described way."""
    return f"{PREFIX}{hashlib.sha256(described.encode()).hexdigest()[:16]}{SUFFIX}"


def _delete_unused(folder: Path) -> None:
    oldest = time.time() - UNUSED_S
    for file in (*folder.glob(f"{PREFIX}*{SUFFIX}"), *folder.glob(f".{PREFIX}*")):  # the others are of killed workers
        with suppress(OSError):  # another worker was faster, or it is another user's
            if file.stat().st_mtime < oldest:
                file.unlink()


def read_packed(file: Path) -> tuple[PackedLayout, Memory] | None:
    """Read the file; None if there is none or it is damaged.

    Raises:
        OSError: there is not enough memory.
    """
    try:
        content = file.open("rb")
    except OSError:
        return None
    with content:
        with suppress(OSError):  # not our file, or a disk that is read-only
            os.utime(file)
        try:
            header = json.loads(content.readline(MAX_HEADER))
            described, size, digest = header["layout"], header["size"], header["sha256"]
        except (ValueError, LookupError, TypeError):
            return None
        if os.fstat(content.fileno()).st_size != content.tell() + size:
            return None
        memory = Memory(size)
        if content.readinto(memory.view()) != size or _digest(described, memory) != digest:
            memory.close()
            return None
    return _layout(described), memory


def _layout(described: str) -> PackedLayout:
    found = json.loads(described)
    shapes = ({name: tuple(shape) for name, shape in found[kind].items()} for kind in ("modules", "embeddings"))
    return PackedLayout([(part, name, size) for part, name, size in found["tensors"]], *shapes)


def _digest(described: str, memory: Memory) -> str:
    digest = hashlib.sha256(described.encode())
    digest.update(memory.view())
    return digest.hexdigest()


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
