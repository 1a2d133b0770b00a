"""The npm packages that tests use, installed at the first test that needs one."""

from __future__ import annotations

import subprocess
from pathlib import Path

from filelock import FileLock

from tests.missing import need_program

INSTALL_S = 240


def install(folder: Path) -> None:
    """Install the packages of a `package-lock.json`; skips the test if there is no npm.

    Safe if several processes call it at once, and if an earlier call was killed.
    """
    need_program("npm")
    with FileLock(folder / "node_modules.lock"):
        if not _is_complete(folder):
            subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=folder, check=True, timeout=INSTALL_S)


def _is_complete(folder: Path) -> bool:
    done = folder / "node_modules" / ".package-lock.json"  # npm writes it last
    return done.is_file() and done.stat().st_mtime >= (folder / "package-lock.json").stat().st_mtime
