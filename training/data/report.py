"""The report about a dataset: whether it can be used, what is wrong with it, and what a training on it would see."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from training.data.encoding import Encoder
from training.data.examples import Dataset
from training.data.faults import MAX_FAULTS, MAX_LINES, Fault
from training.data.lengths import Plan, estimate, sizes_of, token_lengths, too_long
from training.data.reading import MIN_EXAMPLES, read_leniently
from training.data.rendering import rendered
from training.data.repetition import duplicates, overlap
from training.data.splitting import Split, split_groups


@dataclass(frozen=True, slots=True)
class Report:
    """What `check` found; `to_json` describes the fields."""

    format: str
    count: int
    kind: str
    faults: Sequence[Fault]
    tokens: dict[str, int] | None
    too_long: dict[str, Any] | None
    duplicates: dict[str, Any]
    held_out: dict[str, Any]
    overlap: dict[str, Any]
    rendered: Sequence[dict[str, Any]]
    estimate: dict[str, Any] | None

    @property
    def usable(self) -> bool:
        """Whether a training accepts the dataset."""
        too_long = self.too_long["count"] if self.too_long else 0
        return not self.faults and not self.held_out["total_faults"] and self.count - too_long >= MIN_EXAMPLES

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON.

        usable           whether a training accepts it
        format, kind     its format, and "conversations" or "preferences"
        count            examples without faults
        faults           [{line, column, field, message}], at most `MAX_FAULTS` of `total_faults`
        tokens           {min, median, p95, max, total, learned}; null if there was no tokenizer
        too_long         {max_length, count, share, lines}: examples that would be left out
        duplicates       {count, groups}: examples that repeat an earlier one, and the lines of each group
        held_out         {source, count, share, lines, grouped_by, faults, total_faults}
        overlap          {count, examples: [{line, training_line}]}: held-out questions that are also trained
        examples_rendered [{line, parts: [{text, loss}]}]: what the model will see of the first examples
        estimate         {steps, epochs, batch_size, tokens, tokens_per_s, seconds}
        """
        return {
            "usable": self.usable,
            "format": self.format,
            "kind": self.kind,
            "count": self.count,
            **_listed(self.faults),
            "tokens": self.tokens,
            "too_long": self.too_long,
            "duplicates": self.duplicates,
            "held_out": self.held_out,
            "overlap": self.overlap,
            "examples_rendered": list(self.rendered),
            "estimate": self.estimate,
        }


def check(
    content: bytes,
    encoder: Encoder | None,
    plan: Callable[[Dataset], Plan],
    *,
    held_out: bytes | None = None,
    seed: int = 0,
) -> Report:
    """Check a dataset; nothing that is wrong with it raises an error.

    Args:
        content: the dataset.
        encoder: of the model that is to be trained; None: token counts and rendered examples are left out.
        plan: returns how a training would use the examples that it is given.
        held_out: a dataset to test with; None: a part of `content` is held out, chosen by `seed`.
    """
    dataset, faults = read_leniently(content)
    testing, testing_faults = (None, []) if held_out is None else read_leniently(held_out)
    if testing is not None and len(testing) and len(dataset) and testing.is_preference != dataset.is_preference:
        testing_faults.append(Fault(1, 1, None, f"this is {_kind(testing)}, but the training data {_kind(dataset)}"))
    parts = _parts(dataset, testing, seed)
    sizes, refused = sizes_of(dataset, encoder)
    wanted = plan(parts.training)
    return Report(
        format=dataset.format,
        count=len(dataset),
        kind=_kind(dataset),
        faults=sorted([*faults, *refused], key=lambda one: (one.line, one.column)),
        tokens=token_lengths(dataset, sizes),
        too_long=too_long(dataset, sizes, wanted.max_length),
        duplicates=duplicates(dataset),
        held_out=_held_out(parts, testing is not None) | _listed(testing_faults),
        overlap=overlap(parts),
        rendered=rendered(dataset, encoder),
        estimate=estimate(sizes, parts.training, wanted),
    )


def _kind(dataset: Dataset) -> str:
    return "preferences" if dataset.is_preference else "conversations"


def _listed(faults: Sequence[Fault]) -> dict[str, Any]:
    return {"faults": [one.to_dict() for one in faults[:MAX_FAULTS]], "total_faults": len(faults)}


def _parts(dataset: Dataset, testing: Dataset | None, seed: int) -> Split:
    if testing is not None:
        return Split(dataset, testing, "nothing")
    if len(dataset) < MIN_EXAMPLES:
        return Split(dataset, dataset.only([]), "nothing")
    return split_groups(dataset, seed)


def _held_out(parts: Split, is_given: bool) -> dict[str, Any]:
    count, total = len(parts.held_out), len(parts.held_out) + len(parts.training)
    return {
        "source": "given" if is_given else "split",
        "count": count,
        "share": round(count / total, 4) if total else 0.0,
        "lines": list(parts.held_out.lines[:MAX_LINES]),
        "grouped_by": None if is_given else parts.grouped_by,
    }
