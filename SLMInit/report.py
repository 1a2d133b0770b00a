"""Writes the report of a run: `summary.json` and a plot of the loss."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

SUMMARY_FILE = "summary.json"
LOSS_FILE = "loss.png"
REPORTED_PACKAGES = ("torch", "transformers", "peft", "accelerate", "safetensors")


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """One finished training run. A loss is the mean cross-entropy per response token, in nats."""

    base_model: str
    device: str
    data: str  # file name
    data_sha256: str
    pairs_trained: int
    pairs_held_out: int
    pairs_left_out: int  # longer than max_length
    steps: int
    epochs: float
    resumed_from: str | None  # checkpoint
    eval_loss_before: float
    eval_loss_after: float
    duration_s: float  # of this command, from its start to the saved adapter
    options: Mapping[str, Any]
    versions: Mapping[str, str]


def package_versions() -> dict[str, str]:
    """Return the package versions that a result depends on."""
    return {"python": platform.python_version()} | {name: version(name) for name in REPORTED_PACKAGES}


def write_summary(summary: Summary, folder: Path) -> None:
    """Write `summary.json`."""
    (folder / SUMMARY_FILE).write_text(json.dumps(asdict(summary), indent=2) + "\n", encoding="utf-8")


def draw_loss(history: Sequence[Mapping[str, float]], summary: Summary, folder: Path) -> None:
    """Plot the loss per step, on the training data and on the held-out pairs, in `loss.png`.

    Args:
        history: the Trainer's log: rows with `step` and `loss` or `eval_loss`.
        summary: for the title.
        folder: the plot's folder.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for key, label, style in (("loss", "training", "-"), ("eval_loss", "held out", "o-")):
        points = [(row["step"], row[key]) for row in history if key in row]
        axes.plot([step for step, _ in points], [loss for _, loss in points], style, label=label, markersize=4)
    axes.set(
        title=f"{summary.base_model} on {summary.data}", xlabel="step", ylabel="loss per response token", ylim=(0, None)
    )
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(folder / LOSS_FILE, dpi=120)
