"""What a test does if this machine lacks something that it needs."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest


def skip_or_fail(reason: str) -> NoReturn:
    """Skip the test; under CI, where everything has to be installed, fail it."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def need_program(name: str) -> None:
    """Go on only if there is such a program on the PATH."""
    if shutil.which(name) is None:
        skip_or_fail(f"there is no {name}")
