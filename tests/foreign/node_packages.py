"""The packages of `node/`, installed at the first test that needs one."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.missing import need_program

FOLDER = Path(__file__).parent / "node"


def require(package: str) -> None:
    """Install the package; skips the test if there is no npm."""
    need_program("npm")
    if not (FOLDER / "node_modules" / package).is_dir():
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=FOLDER, check=True, timeout=240)
