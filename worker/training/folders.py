"""The folders of training runs: `<data folder>/training/<job id>/`, with the dataset, checkpoints and the adapter."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from common.errors import QuotaExceeded

RETRY_S = 3600
KEPT = "run"  # what training writes; of it only the adapter is kept at the end


class RunFolders:
    """Makes, measures and deletes the folders.

    Args:
        folder: has all of them.
        max_bytes: the most that they may take together.
        is_known: returns which of some job ids have a record.
        is_open: returns whether a job has not ended.
    """

    def __init__(
        self,
        folder: Path,
        *,
        max_bytes: int,
        is_known: Callable[[str], bool],
        is_open: Callable[[str], bool],
    ) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._is_known = is_known
        self._is_open = is_open

    def of(self, job_id: str) -> Path:
        """Return the folder of a run, which may not exist."""
        return self._folder / job_id

    def make(self, job_id: str) -> Path:
        """Make the folder of a run, unless it exists."""
        folder = self.of(job_id)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder

    def put(self, job_id: str, name: str, pieces: Iterable[str]) -> None:
        """Write a file into a run's folder, whole or not at all, unless it is there."""
        path = self.of(job_id) / name
        if path.is_file():
            return
        partial = path.with_suffix(".partial")
        with partial.open("w", encoding="utf-8", newline="") as file:
            file.writelines(pieces)
        partial.rename(path)

    def check_room(self) -> None:
        """Delete folders of ended runs, oldest first, until all take at most `max_bytes`.

        Raises:
            QuotaExceeded: those of open runs take more.
        """
        sizes = {path: _size(path) for path in self._all()}
        for path in sorted(sizes, key=lambda one: one.stat().st_mtime):
            if sum(sizes.values()) <= self._max_bytes:
                return
            if not self._is_open(path.name):
                shutil.rmtree(path, ignore_errors=True)
                del sizes[path]
        if sum(sizes.values()) > self._max_bytes:
            raise QuotaExceeded(
                f"The folders of open training runs take more than SLM_TRAIN_DISK ({self._max_bytes} bytes).",
                retry_after_s=RETRY_S,
                limit=self._max_bytes,
            )

    def keep_only(self, job_id: str, name: str) -> None:
        """Delete everything of an ended run but its adapter, a folder of that name in what training wrote."""
        run = self.of(job_id) / KEPT
        adapter = self.of(job_id) / name
        (run / name).rename(adapter)
        for path in self.of(job_id).iterdir():
            if path != adapter:
                shutil.rmtree(path) if path.is_dir() else path.unlink()

    def remove(self, job_id: str) -> None:
        """Delete a run's folder, if it is there."""
        shutil.rmtree(self.of(job_id), ignore_errors=True)

    def tidy(self) -> None:
        """Delete the folders of runs whose records have expired."""
        for path in self._all():
            if not self._is_known(path.name):
                self.remove(path.name)

    def _all(self) -> list[Path]:
        return [path for path in self._folder.iterdir() if path.is_dir()] if self._folder.is_dir() else []


def _size(folder: Path) -> int:
    """Return the size of a folder's files, some of which may vanish meanwhile."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(parent, name)).st_size  # noqa: PTH118 - many files
            except FileNotFoundError:
                continue
    return total
