"""Compares a new version with the base model and with the version that it would replace."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from training.gate.prompts import FixedPrompt
from training.gate.report import GateReport

if TYPE_CHECKING:
    from training.data import Dataset
    from training.evaluate import EvaluationEvents


def compare(
    base: Path,
    candidate: Path,
    current: Path | None,
    trained: Dataset,
    held_out: Dataset,
    prompts: Sequence[FixedPrompt],
    events: EvaluationEvents,
    *,
    device: str = "cpu",
    max_length: int = 1024,
) -> GateReport:
    """Return the gate's table.

    Args:
        base: the base model's folder.
        candidate: the new adapter's folder.
        current: the folder of the adapter that it would replace; None if there is none.
        trained: examples that the candidate was trained on.
        held_out: examples that it was not trained on.
        prompts: the user's own; may be empty.
        events: is told of the progress, and may end it.

    Raises:
        FineTuningError: a folder or the data cannot be used.
        Stopped: `events.should_stop()` returned True.
    """
    from training.gate.measure import Examples, measure_all  # loads torch
    from training.gate.verdict import judge

    return judge(
        measure_all(base, candidate, current, Examples(trained, held_out), prompts, events, device, max_length)
    )
