"""What one request to the helper may take."""

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
    """The request took too much and was stopped. The text ends a sentence: "it ..."."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds by the clock and of computing, and bytes of address space beyond what the process has already.

    The clock's limit is for a busy machine; an idle one reaches that of computing first.
    """

    wall_s: float
    cpu_s: float
    memory: int


@contextmanager
def limited(limits: Limits) -> Iterator[None]:
    """Apply them to this process for the length of a `with` block; the clock is the parent's business.

    Too much computing ends the process by SIGPROF. Too much memory is a `MemoryError` in Python, and SIGABRT in native
    code. Systems other than Linux do not limit the address space.
    """
    _limit_memory(limits.memory)
    signal.setitimer(signal.ITIMER_PROF, limits.cpu_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        _limit_memory(None)


def resident_bytes() -> int:
    """Memory that this process holds; 0 where the system does not say it cheaply."""
    return _pages(1) * resource.getpagesize()


def _limit_memory(beyond_present: int | None) -> None:
    if sys.platform != "linux":
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = hard if beyond_present is None else _pages(0) * resource.getpagesize() + beyond_present
    resource.setrlimit(resource.RLIMIT_AS, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


def _pages(field: int) -> int:
    return int(_STATM.read_text().split()[field]) if _STATM.exists() else 0
