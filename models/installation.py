"""Installs a model's folder atomically, and only once if several processes request it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path


def install_once(folder: Path, make: Callable[[Path], Path], *, progress: Callable[[str], None]) -> Path:
    """Return `folder`; creates it if it does not exist.

    If several processes call this concurrently, one creates the folder while the others wait. The next call removes
    the unfinished files of a killed process.

    Args:
        folder: the model's final folder.
        make: builds the model below the given empty scratch folder and returns its path. If it raises, the exception
            is passed on and its files are removed.
        progress: called with one line of text when the folder has been created.
    """
    if folder.is_dir():
        return folder
    from filelock import FileLock

    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if not folder.is_dir():
            _make(folder, folder.with_name(f".{folder.name}.partial"), make)
            progress(f"The model is ready in {folder}")
    return folder


def _make(folder: Path, scratch: Path, make: Callable[[Path], Path]) -> None:
    """Build in the scratch folder, then move. Only the lock's holder uses that folder, so old files can be deleted."""
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    try:
        made = make(scratch)
        os.sync()  # a power cut must not lose the files' contents but keep the folder
        made.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
