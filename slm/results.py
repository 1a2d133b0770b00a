"""Writes what came of a training run or an evaluation, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slm.card import show_gate
from slm.output import Output

EVALUATED = ("name", "model", "loss", "perplexity", "token_accuracy", "exact", "overlap")


def show_trained(output: Output, result: Mapping[str, Any]) -> None:
    """Say what became of a run, and why."""
    show_gate(output, result["gate"])
    output.line(f"{result['message']}.")
    if not result["published"]:
        output.line(f"Publish it all the same: slm jobs publish {result['job_id']}")


def show_evaluated(output: Output, result: Mapping[str, Any]) -> None:
    """Write a row for each model that was measured."""
    rows = [[_short(one[column]) for column in EVALUATED] for one in result["models"]]
    output.table([column.replace("_", " ").upper() for column in EVALUATED], rows)


def _short(value: object) -> object:
    return f"{value:.3f}" if isinstance(value, float) else value
