"""Writes the report about a dataset for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Report = Mapping[str, Any]
SHOWN_LINES = 20


def written(report: Report) -> str:
    """Return the report as text."""
    return "\n\n".join(filter(None, ("\n".join(_facts(report)), _faults(report), "\n\n".join(_examples(report)))))


def _facts(report: Report) -> Iterator[str]:
    yield f"{report['count']} examples of the format {report['format']}"
    if tokens := report["tokens"]:
        lengths = ", ".join(f"{name} {tokens[name]}" for name in ("min", "median", "p95", "max"))
        yield f"tokens per example: {lengths}; together {tokens['total']}, of which {tokens['learned']} are learned"
    if (long := report["too_long"]) and long["count"]:
        share = f"{long['share']:.1%}"
        yield f"{long['count']} ({share}) have more than {long['max_length']} tokens and are left out: {_lines(long)}"
    if (twice := report["duplicates"])["count"]:
        groups = "; ".join(" = ".join(map(str, group)) for group in twice["groups"][:SHOWN_LINES])
        yield f"{twice['count']} repeat an earlier one (lines {groups})"
    yield _held_out(report["held_out"])
    if (overlap := report["overlap"])["count"]:
        pairs = "; ".join(f"{one['line']} like {one['training_line']}" for one in overlap["examples"][:SHOWN_LINES])
        yield f"{overlap['count']} held-out questions are also trained (lines {pairs})"
    if estimate := report["estimate"]:
        yield (
            f"{estimate['steps']} steps of {estimate['batch_size']} examples ({estimate['epochs']:g} epochs), about "
            f"{_duration(estimate['seconds'])} at {estimate['tokens_per_s']:g} tokens/s"
        )


def _held_out(part: Mapping[str, Any]) -> str:
    if part["source"] == "given":
        return f"{part['count']} examples to test with, from their own file; it has {part['total_faults']} faults"
    return f"{part['count']} held out to test with; kept together: {part['grouped_by']}"


def _faults(report: Report) -> str:
    both = (("", report), ("validation ", report["held_out"]))
    lines = [line for where, part in both for line in _listed(where, part["faults"], part["total_faults"])]
    return "\n".join(lines)


def _listed(where: str, faults: Sequence[Mapping[str, Any]], total: int) -> Iterator[str]:
    for one in faults:
        subject = f"{one['field']}: " if one["field"] else ""
        yield f"{where}line {one['line']}, column {one['column']}: {subject}{one['message']}"
    if total > len(faults):
        yield f"... and {total - len(faults)} more"


def _examples(report: Report) -> Iterator[str]:
    """Yield the examples as the model sees them. What the loss counts is between [[ and ]]."""
    for one in report["examples_rendered"]:
        parts = "".join(f"[[{part['text']}]]" if part["loss"] else part["text"] for part in one["parts"])
        yield f"line {one['line']}, as the model sees it; [[ ]] is learned:\n{parts}"


def _lines(part: Mapping[str, Any]) -> str:
    shown = ", ".join(map(str, part["lines"][:SHOWN_LINES]))
    return f"lines {shown}{', ...' if part['count'] > SHOWN_LINES else ''}"


def _duration(seconds: int) -> str:
    return f"{seconds} s" if seconds < 120 else f"{round(seconds / 60)} min"
