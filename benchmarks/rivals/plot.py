"""Draws results as bars, a panel for each metric."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.rivals.results import PLOTTED, Sample

PANEL_INCHES = (4.2, 2.6)
OURS_COLOUR, RIVAL_COLOUR = "#2f6fde", "#9aa4b2"


def draw(samples: Sequence[Sample], machine: str, file: Path) -> None:
    """Write an image with the medians of all systems, the first one in colour; the format is that of the suffix."""
    from matplotlib.figure import Figure

    systems = list(dict.fromkeys(one.system for one in samples))
    metrics = [metric for metric in PLOTTED if metric.of(samples, systems[0])]
    rows = -(-len(metrics) // 2)
    width, height = PANEL_INCHES
    figure = Figure(figsize=(2 * width, rows * height), layout="constrained")
    for number, metric in enumerate(metrics, 1):
        panel = figure.add_subplot(rows, 2, number)
        values = {system: value for system in systems if (value := metric.of(samples, system)) is not None}
        colours = [OURS_COLOUR if system == systems[0] else RIVAL_COLOUR for system in values]
        bars = panel.barh(list(values), list(values.values()), color=colours)
        panel.bar_label(bars, fmt="{:.3g}", padding=3)
        panel.margins(x=0.15)
        panel.set_title(metric.name, fontsize=9)
        panel.invert_yaxis()
        panel.spines[["top", "right"]].set_visible(False)
    figure.suptitle(machine, fontsize=8)
    figure.savefig(file)
