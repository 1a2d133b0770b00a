"""The CPU kernels of the workers that tests start, compiled once instead of in each test's new data folder."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from filelock import FileLock

from common.settings import ROOT
from worker.engine.native.build import build_library
from worker.engine.native.errors import BuildFailed

SHARED = ROOT / "data" / "native"


def share_kernels(data_dir: Path) -> None:
    """Give a new data folder the project's own compiled kernels. Without a compiler, its workers do without them."""
    SHARED.parent.mkdir(exist_ok=True)
    with FileLock(SHARED.with_suffix(".lock")), suppress(BuildFailed):
        build_library(SHARED)
    folder = data_dir / "native"
    if not folder.exists():
        data_dir.mkdir(parents=True, exist_ok=True)
        folder.symlink_to(SHARED)
