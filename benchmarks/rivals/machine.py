"""Describes the machine, and measures how busy other programs keep it. Linux only: it reads /proc."""

from __future__ import annotations

import os
import time
from pathlib import Path

WATCH_S = 0.5


def describe() -> str:
    """Return the processor's name and the number of cores."""
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else 'unknown processor'}, {os.cpu_count()} cores"


def busy_share() -> float:
    """Return the current CPU utilisation of the machine, from 0 to 1, including time stolen by a hypervisor."""
    idle_before, total_before = _ticks()
    time.sleep(WATCH_S)
    idle, total = _ticks()
    return 1 - (idle - idle_before) / max(total - total_before, 1)


def _ticks() -> tuple[int, int]:
    """Return the idle ticks and all ticks of all processors since boot."""
    user, nice, system, idle, waiting, *rest = map(
        int, Path("/proc/stat").read_text("utf-8").split("\n")[0].split()[1:]
    )
    interrupts_and_stolen = sum(rest[:3])  # the fields after them are guests, which are already part of user
    return idle + waiting, user + nice + system + idle + waiting + interrupts_and_stolen
