"""The packages of `node/`, installed at the first test that needs one."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "node"


def require(package: str) -> None:
    """Have the package installed; skips the test where there is no npm."""
    if shutil.which("npm") is None:
        if os.environ.get("CI"):
            pytest.fail("there is no npm")
        pytest.skip("there is no npm")
    if not (FOLDER / "node_modules" / package).is_dir():
        subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=FOLDER, check=True, timeout=240)
