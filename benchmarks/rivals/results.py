"""The results: one sample for each run of a system, and a table of all of them."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.rivals.process import PeakMemory
from benchmarks.serving import Measured, percentile

GIB = 1024**3
GOOD_TTFT_S = 0.5  # people notice a longer silence
GOOD_MEAN_ITL_S = 0.1  # ten tokens per second: faster than people read
GOODPUT = f"goodput, requests/s (TTFT <= {GOOD_TTFT_S} s, mean ITL <= {GOOD_MEAN_ITL_S * 1e3:.0f} ms)"


@dataclass(frozen=True)
class Sample:
    """One run of one system under one workload."""

    system: str
    workload: str
    round: int
    busy_before: float  # CPU utilisation by other programs just before, 0 to 1
    start_s: float
    memory: PeakMemory
    measured: Measured

    def line(self) -> str:
        """Return the sample as a line for the console."""
        note = f"   (machine {self.busy_before:.0%} busy before)" if self.busy_before > 0.1 else ""
        return f"{self.round} {self.system:34} {self.measured.row(self.workload)}{note}"


@dataclass(frozen=True)
class Failure:
    """A run of a system that failed: it ended, refused a request, or was not ready in time."""

    system: str
    workload: str
    round: int
    reason: str

    def line(self) -> str:
        """Return the failure as a line for the console."""
        return f"{self.round} {self.system:34} {self.workload:4} failed: {self.reason}"


@dataclass(frozen=True)
class Metric:
    """A line of the table.

    Args:
        name: with its unit.
        workload: the workload of the samples to use; None: all.
        value: returns the value of one sample.
        merge: combines the values of all samples.
    """

    name: str
    workload: str | None
    value: Callable[[Sample], float]
    merge: Callable[[Sequence[float]], float] = statistics.median

    def of(self, samples: Sequence[Sample], system: str) -> float | None:
        """Return the value for a system; None if it was not measured."""
        own = [one for one in samples if one.system == system and self.workload in (None, one.workload)]
        return self.merge([self.value(one) for one in own]) if own else None


def _ttft_p50(sample: Sample) -> float:
    return percentile(sample.measured.ttft, 50)


def _goodput(sample: Sample) -> float:
    return sample.measured.goodput(GOOD_TTFT_S, GOOD_MEAN_ITL_S)


def _itl_p95_ms(sample: Sample) -> float:
    return 1e3 * percentile(sample.measured.itl, 95)


PLOTTED = [
    *(Metric(f"{name} tok/s", name, lambda one: one.measured.tokens_per_s) for name in ("W1", "W8", "W32")),
    *(Metric(f"{name} TTFT p50, s", name, _ttft_p50) for name in ("W1", "W8", "W32", "WL")),
]
METRICS = [
    *PLOTTED,
    *(Metric(f"{name} ITL p95, ms", name, _itl_p95_ms) for name in ("W1", "W8", "W32")),
    *(Metric(f"{name} {GOODPUT}", name, _goodput) for name in ("W8", "W32")),
    Metric("start, s", None, lambda one: one.start_s),
    Metric("peak RSS of the largest process, GiB", None, lambda one: one.memory.largest / GIB, max),
    Metric("peak RSS of all processes, GiB", None, lambda one: one.memory.total / GIB, max),
]


def read(file: Path) -> tuple[str, list[Sample | Failure]]:
    """Return the description of the machine, and the outcomes that `save` wrote."""
    content = json.loads(file.read_text("utf-8"))
    return content["machine"], [_outcome(one) for one in content["outcomes"]]


def _outcome(fields: dict[str, Any]) -> Sample | Failure:
    if "reason" in fields:
        return Failure(**fields)
    return Sample(**fields | {"memory": PeakMemory(**fields["memory"]), "measured": Measured(**fields["measured"])})


def save(outcomes: Sequence[Sample | Failure], machine: str, file: Path) -> None:
    """Write all raw measurements."""
    content = {"machine": machine, "outcomes": [asdict(one) for one in outcomes]}
    file.write_text(json.dumps(content, indent=1), "utf-8")


def table(outcomes: Sequence[Sample | Failure], systems: Sequence[str]) -> str:
    """Return medians over the rounds (maxima for memory); in brackets, the first system's value over the rival's.

    A system's failed runs are lines below the table; they are no part of its medians.
    """
    samples = [one for one in outcomes if isinstance(one, Sample)]
    failures = [one for one in outcomes if isinstance(one, Failure)]
    ours, *rivals = systems
    lines = ["| | " + " | ".join(systems) + " |", "|---" * (1 + len(systems)) + "|"]
    for metric in METRICS:
        base = metric.of(samples, ours)
        cells = [_cell(base), *(_cell(metric.of(samples, rival), base) for rival in rivals)]
        if any(cells):
            lines.append(f"| {metric.name} | " + " | ".join(cells) + " |")
    lines += ["", *(f"- {one.system}, {one.workload}, round {one.round}: {one.reason}" for one in failures)]
    return "\n".join(lines).rstrip()


def _cell(value: float | None, base: float | None = None) -> str:
    if value is None:
        return ""
    ratio = "" if base is None or not value else f" ({base / value:.2f})"
    return (f"{value:.0f}" if value >= 100 else f"{value:.3g}") + ratio
