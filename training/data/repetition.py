"""Finds examples that repeat others: duplicates, and held-out questions that are also trained."""

from __future__ import annotations

from typing import Any

from training.data.examples import Dataset, Example
from training.data.faults import MAX_LINES
from training.data.likeness import Groups, near_duplicates, normalised, prompt_text
from training.data.splitting import Split


def duplicates(dataset: Dataset) -> dict[str, Any]:
    """Return the report's `duplicates`."""
    groups = Groups(len(dataset))
    groups.join_equal(_said(one) for one in dataset.examples)
    found = [[dataset.lines[index] for index in group] for group in groups.members() if len(group) > 1]
    return {"count": sum(map(len, found)) - len(found), "groups": [one[:MAX_LINES] for one in found[:MAX_LINES]]}


def _said(example: Example) -> tuple[str, ...]:
    rejected = getattr(example, "rejected", "")
    return prompt_text(example), normalised(example.response), normalised(rejected)


def overlap(parts: Split) -> dict[str, Any]:
    """Find the held-out questions that are also asked in training, in the same or nearly the same words."""
    if parts.grouped_by in ("response and wording", "wording"):
        return {"count": 0, "examples": []}  # such questions were kept on one side
    examples = [*parts.training.examples, *parts.held_out.examples]
    first = len(parts.training)
    leaks: dict[int, int] = {}
    for one, other in near_duplicates([prompt_text(example) for example in examples], first=first):
        if one < first:
            leaks.setdefault(other - first, one)
    shown = sorted(leaks.items())[:MAX_LINES]
    lines = [{"line": parts.held_out.lines[one], "training_line": parts.training.lines[other]} for one, other in shown]
    return {"count": len(leaks), "examples": lines}
