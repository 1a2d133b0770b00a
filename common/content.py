"""Hashes the files of a model or adapter: two folders with the same hash give the same results."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
import uuid
from collections.abc import Mapping
from pathlib import Path

# The files that loading a model may read: weights, settings, tokenizers, templates; not pictures, notes, checkpoints.
SUFFIXES = frozenset({".json", ".safetensors", ".jinja", ".model", ".txt", ".tiktoken"})
_Stamp = tuple[int, ...]  # inode, size, and the times of the last changes in nanoseconds
_SETTLED_NS = 2_000_000_000
_MAX_REMEMBERED = 1000  # files


def files_of(folder: Path) -> list[Path]:
    """Return the files that count, sorted by name."""
    return sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES and path.is_file())


def hash_of(files: Mapping[str, str]) -> str:
    """Return the hash, in hex, of a folder with files of these names and hashes."""
    lines = "".join(f"{digest} {name}\n" for name, digest in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


class ContentHashes:
    """Computes the SHA-256 of files and folders; rereads a file only if its size, times or inode have changed.

    Args:
        memory: a file in which the hashes outlive the process; it is optional, and nothing depends on it.
    """

    def __init__(self, memory: Path | None = None) -> None:
        self._memory = memory
        self._settled: dict[str, tuple[_Stamp, str]] = _remembered(memory) if memory else {}
        self._known = dict(self._settled)

    def of_folder(self, folder: Path) -> str:
        """Return the hash, in hex, of the names and contents of the folder's model files (without subfolders).

        Raises:
            OSError: a file cannot be read.
        """
        return hash_of({file.name: self._of_file(file) for file in files_of(folder)})

    def _of_file(self, file: Path) -> str:
        now_ns, stamp, name = time.time_ns(), _stamp(file), str(file.absolute())
        known = self._known.get(name)
        if known is None or known[0] != stamp:
            with file.open("rb") as content:
                known = self._known[name] = (stamp, hashlib.file_digest(content, "sha256").hexdigest())
            self._settled.pop(name, None)
            if max(stamp[2:]) < now_ns - _SETTLED_NS:  # else a change after this reading could have the same time
                self._settled[name] = known
            self._remember()
        return known[1]

    def _remember(self) -> None:
        """Keep the hashes of files that had not just changed when they were read."""
        if self._memory is None:
            return
        scratch = self._memory.with_name(f".{self._memory.name}.{uuid.uuid4()}")
        with contextlib.suppress(OSError):
            self._memory.parent.mkdir(parents=True, exist_ok=True)
            scratch.write_text(json.dumps(dict(list(self._settled.items())[-_MAX_REMEMBERED:])), encoding="utf-8")
            scratch.replace(self._memory)
        with contextlib.suppress(OSError):
            scratch.unlink(missing_ok=True)


def _remembered(memory: Path) -> dict[str, tuple[_Stamp, str]]:
    try:
        found = json.loads(memory.read_text(encoding="utf-8"))
        return {name: (tuple(map(int, stamp)), str(digest)) for name, (stamp, digest) in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _stamp(file: Path) -> _Stamp:
    """Return a stamp; take it before reading the file, so that the next call notices a change during the read."""
    status: os.stat_result = file.stat()
    return (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
