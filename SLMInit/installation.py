"""Puts a model's folder in its place: whole or not at all, and once, however many processes ask for it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path


def install_once(folder: Path, make: Callable[[Path], Path], *, progress: Callable[[str], None]) -> Path:
    """Return `folder`, having it made first when it is not there.

    Of several processes that ask at once one makes the folder while the others wait. What a killed process left half
    made is cleared by the next.

    Args:
        folder: the model's place.
        make: builds the model somewhere below the empty scratch folder that it is given, and returns where. What it
            raises is passed on, and nothing remains of its work.
        progress: called with one line of text when the folder was made.
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
    """Only the lock's holder touches the scratch folder, so what lies there is of no use to anybody."""
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    try:
        made = make(scratch)
        os.sync()  # a power cut must not leave the folder in its place and take the files' contents
        made.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
