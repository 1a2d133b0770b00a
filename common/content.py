"""Hashes the files of a model or adapter: two folders with the same hash give the same results."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

# The files that loading a model may read: weights, settings, tokenizers, templates; not pictures, notes, checkpoints.
SUFFIXES = frozenset({".json", ".safetensors", ".jinja", ".model", ".txt", ".tiktoken"})
_Stamp = tuple[int, ...]


def files_of(folder: Path) -> list[Path]:
    """Return the files that count, sorted by name."""
    return sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES and path.is_file())


def hash_of(files: Mapping[str, str]) -> str:
    """Return the hash, in hex, of a folder with files of these names and hashes."""
    lines = "".join(f"{digest} {name}\n" for name, digest in sorted(files.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


class ContentHashes:
    """Computes the SHA-256 of files and folders; rereads a file only if its size, times or inode have changed."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[_Stamp, str]] = {}

    def of_folder(self, folder: Path) -> str:
        """Return the hash, in hex, of the names and contents of the folder's model files (without subfolders).

        Raises:
            OSError: a file cannot be read.
        """
        return hash_of({file.name: self._of_file(file) for file in files_of(folder)})

    def _of_file(self, file: Path) -> str:
        stamp = _stamp(file)
        known = self._known.get(file)
        if known is None or known[0] != stamp:
            with file.open("rb") as content:
                known = self._known[file] = (stamp, hashlib.file_digest(content, "sha256").hexdigest())
        return known[1]


def _stamp(file: Path) -> _Stamp:
    """Return a stamp; take it before reading the file, so that the next call notices a change during the read."""
    status: os.stat_result = file.stat()
    return (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
