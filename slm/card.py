"""Writes a model card, or another trainer's summary, which can be any JSON, for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from slm.output import Output

GATE_COLUMNS = ("name", "base", "current", "candidate", "bound", "passed")
GATE_HEADINGS = ("GATE", "BASE", "CURRENT", "NEW", "BOUND", "PASSED")


def facts_of(card: Mapping[str, Any]) -> dict[str, object]:
    """Return a line for each field but the gate's table."""
    return {name: _line(name, value) for name, value in card.items() if name != "gate"}


def show_gate(output: Output, gate: object) -> None:
    """Write the gate's table, if there is one."""
    rows = gate.get("rows") if isinstance(gate, Mapping) else None
    if not isinstance(rows, Sequence) or not all(isinstance(row, Mapping) for row in rows):
        return
    output.table(GATE_HEADINGS, [[_short(row.get(column)) for column in GATE_COLUMNS] for row in rows])


def _line(name: str, value: object) -> object:
    if isinstance(value, Mapping):
        return ", ".join(f"{inner.replace('_', ' ')} {_short(one)}" for inner, one in value.items() if one is not None)
    if name == "curve" and isinstance(value, Sequence) and all(isinstance(point, Mapping) for point in value):
        losses = ((one.get("step"), one.get("held_out_loss")) for one in value)
        return ", ".join(f"{_short(loss)} at step {step}" for step, loss in losses if loss is not None)
    return value


def _short(value: object) -> object:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else value
