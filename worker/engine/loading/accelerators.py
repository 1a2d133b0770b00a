"""Asks for accelerators without importing torch, which takes seconds, where there can be none."""

from __future__ import annotations

import ctypes
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_NVIDIA_LIBRARY = "libcuda.so.1"  # not its device files: some systems make them when the driver is first used
_AMD_DEVICE = Path("/dev/kfd")


def may_have_accelerator() -> bool:
    """Return False if torch would find no accelerator for sure."""
    if sys.platform != "linux":
        return True
    return not _is_for_cpus_only() and (_AMD_DEVICE.exists() or _has_nvidia_driver())


def _is_for_cpus_only() -> bool:
    try:
        return version("torch").endswith("+cpu")
    except PackageNotFoundError:
        return False


def _has_nvidia_driver() -> bool:
    """Return whether the driver's library, which torch needs, can be loaded; this does not start the driver."""
    try:
        ctypes.CDLL(_NVIDIA_LIBRARY)
    except OSError:
        return False
    return True
