"""Draws the loss of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from training.curve import Point

LOSS_FILE = "loss.png"


def draw_loss(curve: Sequence[Point], best_step: int, title: str, folder: Path) -> None:
    """Plot the loss per step, on the training data and on the held-out examples, in `loss.png`."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    trained = [(point.step, point.loss) for point in curve if point.loss is not None]
    held_out = [(point.step, point.held_out_loss) for point in curve if point.held_out_loss is not None]
    for points, label, style in ((trained, "training", "-"), (held_out, "held out", "o-")):
        axes.plot([step for step, _ in points], [loss for _, loss in points], style, label=label, markersize=4)
    axes.axvline(best_step, linestyle=":", color="grey", label="kept")
    axes.set(title=title, xlabel="step", ylabel="loss per response token", ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(folder / LOSS_FILE, dpi=120)
