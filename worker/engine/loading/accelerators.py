"""Asks for accelerators without importing torch, which takes seconds, where there can be none."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

# Made by the drivers of NVIDIA, of NVIDIA under Windows' Linux, and of AMD.
_DEVICE_FILES = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")


def may_have_accelerator() -> bool:
    """Return False if torch would find no accelerator for sure."""
    if sys.platform != "linux":
        return True
    return not _is_for_cpus_only() and any(Path(file).exists() for file in _DEVICE_FILES)


def _is_for_cpus_only() -> bool:
    try:
        return version("torch").endswith("+cpu")
    except PackageNotFoundError:
        return False
