"""Skips or fails a test if the machine lacks something that the test needs."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest


def skip_or_fail(reason: str) -> NoReturn:
    """Skip the test; in CI, where everything must be installed, fail it."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def need_program(name: str) -> None:
    """Skip or fail unless the program is on PATH."""
    if shutil.which(name) is None:
        skip_or_fail(f"there is no {name}")
