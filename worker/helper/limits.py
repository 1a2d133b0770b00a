"""Limits the time and memory of a child of the helper."""

from __future__ import annotations

import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_STATM = Path("/proc/self/statm")  # sizes in pages: address space, resident, ...


class OverLimit(Exception):
    """A computation exceeded a limit and was stopped. The text completes "it ...", for example "takes too long"."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Wall-clock seconds, CPU seconds, and bytes of address space in addition to the current size.

    A computation reaches the CPU limit first; the wall-clock limit is for a machine that is too busy to make progress.
    """

    wall_s: float
    cpu_s: float
    memory: int


@contextmanager
def limited(limits: Limits) -> Iterator[None]:
    """Apply the limits to this process for the duration of a `with` block.

    Exceeding a time limit ends the process by a signal. Exceeding the memory limit raises `MemoryError` in Python, and
    ends the process in native code.
    """
    limit_memory(limits.memory)
    try:
        with limited_time(limits.wall_s, limits.cpu_s):
            yield
    finally:
        limit_memory(None)


@contextmanager
def limited_time(wall_s: float, cpu_s: float) -> Iterator[None]:
    """Apply only the time limits, which takes microseconds."""
    signal.setitimer(signal.ITIMER_REAL, wall_s)
    signal.setitimer(signal.ITIMER_PROF, cpu_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)


def limit_memory(beyond_present: int | None) -> None:
    """Limit the address space to the current size plus `beyond_present` bytes; None: no limit. Only on Linux."""
    if sys.platform != "linux":
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = hard if beyond_present is None else _bytes(0) + beyond_present
    resource.setrlimit(resource.RLIMIT_AS, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


def resident_bytes() -> int:
    """Return the resident memory of this process; 0 if the system has no cheap way to read it."""
    return _bytes(1)


def _bytes(field: int) -> int:
    return int(_STATM.read_text().split()[field]) * resource.getpagesize() if _STATM.exists() else 0
