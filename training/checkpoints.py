"""The checkpoints of a run: each is whole or absent, and few are kept."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import TrainingError

STATE_FILE = "trainer_state.json"  # the trainer writes it last
KEPT = 2  # besides the best one; the one before the last is there if the disk damages the last

Identity = Mapping[str, Any]  # what must be the same to continue from a checkpoint, by name


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """The folder with `checkpoint-<step>` folders and `run.json`, which says of what run they are.

    The trainer writes to `unfinished`; `accept` moves a complete checkpoint from there to its place.
    """

    folder: Path

    @property
    def unfinished(self) -> Path:
        """Where a checkpoint is written. What is there after a crash is never read."""
        return self.folder / "unfinished"

    def begin(self, identity: Identity) -> None:
        """Start or continue the run with this identity.

        Raises:
            TrainingError: the folder holds checkpoints of another run; the text names what differs.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self.unfinished, ignore_errors=True)
        if not self._run_file.is_file():
            write_whole(self._run_file, dict(identity))
            return
        before = json.loads(self._run_file.read_text(encoding="utf-8"))
        for name, value in identity.items():
            if before.get(name) != value:
                raise TrainingError(
                    f"Cannot continue the run in {self.folder}: it was made with {name} = {before.get(name)!r}; "
                    f"now it is {value!r}. Use the same, or begin a new run."
                )

    def discard(self) -> None:
        """Delete everything, so that the next run begins anew."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def last(self) -> Path | None:
        """Return the last checkpoint; None if there is none."""
        steps = self._steps()
        return self.of(steps[-1]) if steps else None

    def of(self, step: int) -> Path:
        """Return the path of the checkpoint of a step."""
        return self.folder / f"checkpoint-{step}"

    def accept(self, step: int) -> Path:
        """Move the checkpoint that was just written to its place."""
        move_whole(self.unfinished / f"checkpoint-{step}", self.of(step))
        return self.of(step)

    def keep_only_last_and(self, best_step: int | None) -> None:
        """Delete all checkpoints but the last `KEPT` and that of the best step."""
        for step in self._steps()[:-KEPT]:
            if step != best_step:
                shutil.rmtree(self.of(step), ignore_errors=True)

    @property
    def _run_file(self) -> Path:
        return self.folder / "run.json"

    def _steps(self) -> list[int]:
        names = (re.fullmatch(r"checkpoint-(\d+)", path.name) for path in self.folder.glob("checkpoint-*"))
        return sorted(int(name[1]) for name in names if name and (self.folder / name[0] / STATE_FILE).is_file())


def write_whole(file: Path, content: Any) -> None:
    """Write a JSON file that is complete or absent even after a crash."""
    draft = file.with_name(f".{file.name}.draft")
    draft.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    _flush_files([draft])
    draft.replace(file)
    _flush_folder(file.parent)


def move_whole(written: Path, place: Path) -> None:
    """Replace a folder by one that is complete."""
    _flush(written)
    shutil.rmtree(place, ignore_errors=True)
    written.rename(place)
    _flush_folder(place.parent)


def _flush(folder: Path) -> None:
    """Make the folder's files survive a crash of the machine."""
    _flush_files(path for path in folder.rglob("*") if path.is_file())
    _flush_folder(folder)


def _flush_files(files: Iterable[Path]) -> None:
    for file in files:
        with file.open("r+b") as content:
            os.fsync(content.fileno())


def _flush_folder(folder: Path) -> None:
    if os.name == "nt":  # it cannot open folders
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
