"""What the measurements came to: one sample for each run of a system, and the table over all of them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.rivals.process import PeakMemory
from benchmarks.serving import Measured, percentile

GIB = 1024**3


@dataclass(frozen=True)
class Sample:
    """One system under one workload, once."""

    system: str
    workload: str
    round: int
    busy_before: float  # share of the machine that others used just before, 0 to 1
    start_s: float
    memory: PeakMemory
    measured: Measured

    def line(self) -> str:
        """The sample for the console."""
        note = f"   (machine {self.busy_before:.0%} busy before)" if self.busy_before > 0.1 else ""
        return f"{self.round} {self.system:34} {self.measured.row(self.workload)}{note}"


@dataclass(frozen=True)
class Figure:
    """A line of the table.

    Args:
        name: with its unit.
        workload: whose samples count; None: all.
        value: the figure of one sample.
        merge: makes one of all samples' figures.
    """

    name: str
    workload: str | None
    value: Callable[[Sample], float]
    merge: Callable[[Sequence[float]], float] = statistics.median

    def of(self, samples: Sequence[Sample], system: str) -> float | None:
        """The figure of a system; None where it was not measured."""
        own = [one for one in samples if one.system == system and self.workload in (None, one.workload)]
        return self.merge([self.value(one) for one in own]) if own else None


def _ttft_p50(sample: Sample) -> float:
    return percentile(sample.measured.ttft, 50)


def _itl_p95_ms(sample: Sample) -> float:
    return 1e3 * percentile(sample.measured.itl, 95)


FIGURES = [
    *(Figure(f"{name} tok/s", name, lambda one: one.measured.tokens_per_s) for name in ("W1", "W8", "W32")),
    *(Figure(f"{name} TTFT p50, s", name, _ttft_p50) for name in ("W1", "W8", "W32", "WL")),
    *(Figure(f"{name} ITL p95, ms", name, _itl_p95_ms) for name in ("W1", "W8", "W32")),
    Figure("start, s", None, lambda one: one.start_s),
    Figure("peak RSS of the largest process, GiB", None, lambda one: one.memory.largest / GIB, max),
    Figure("peak RSS of all processes, GiB", None, lambda one: one.memory.total / GIB, max),
]


def table(samples: Sequence[Sample], systems: Sequence[str]) -> str:
    """Medians over the rounds (of memory the most); behind a rival's in brackets the first system's over it."""
    ours, *rivals = systems
    lines = ["| | " + " | ".join(systems) + " |", "|---" * (1 + len(systems)) + "|"]
    for figure in FIGURES:
        base = figure.of(samples, ours)
        cells = [_cell(base), *(_cell(figure.of(samples, rival), base) for rival in rivals)]
        if any(cells):
            lines.append(f"| {figure.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(value: float | None, base: float | None = None) -> str:
    if value is None:
        return ""
    ratio = "" if base is None else f" ({base / value:.2f})"
    return (f"{value:.0f}" if value >= 100 else f"{value:.3g}") + ratio
