"""What a child of the helper may take."""

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
    """Something took too much and was stopped. The text says what "it" did, such as "takes too long"."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds by the clock and of computing, and bytes of address space beyond what the process has already.

    What computes reaches that of computing; the clock's is for a machine that is so busy that nothing gets on.
    """

    wall_s: float
    cpu_s: float
    memory: int


@contextmanager
def limited(limits: Limits) -> Iterator[None]:
    """Apply them to this process for the length of a `with` block.

    Too much time ends the process by a signal. Too much memory is a `MemoryError` in Python, and the process's end in
    native code.
    """
    limit_memory(limits.memory)
    try:
        with limited_time(limits.wall_s, limits.cpu_s):
            yield
    finally:
        limit_memory(None)


@contextmanager
def limited_time(wall_s: float, cpu_s: float) -> Iterator[None]:
    """Apply the limits of time alone, which takes microseconds."""
    signal.setitimer(signal.ITIMER_REAL, wall_s)
    signal.setitimer(signal.ITIMER_PROF, cpu_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)


def limit_memory(beyond_present: int | None) -> None:
    """Limit the address space; None: no more. Systems other than Linux do not do it."""
    if sys.platform != "linux":
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = hard if beyond_present is None else _bytes(0) + beyond_present
    resource.setrlimit(resource.RLIMIT_AS, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


def resident_bytes() -> int:
    """Memory that this process holds; 0 where the system does not say it cheaply."""
    return _bytes(1)


def _bytes(field: int) -> int:
    return int(_STATM.read_text().split()[field]) * resource.getpagesize() if _STATM.exists() else 0
