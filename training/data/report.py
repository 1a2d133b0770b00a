"""The report about a dataset: whether it can be used, what is wrong with it, and what a training on it would see."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from jinja2 import TemplateError

from models.errors import UnspellableText
from training.data.encoding import Encoder, Sized
from training.data.examples import Dataset, Example
from training.data.faults import MAX_FAULTS, Fault
from training.data.likeness import Groups, near_duplicates, normalised, prompt_text
from training.data.reading import MIN_EXAMPLES, read_leniently
from training.data.splitting import Split, split_groups

MAX_LINES = 100  # of those that are listed; all of them are counted
NUM_RENDERED = 3
MAX_RENDERED_CHARS = 20_000  # of one sequence

Sizes = dict[Example, Sized]  # empty if there is no tokenizer


@dataclass(frozen=True, slots=True)
class Plan:
    """How a training would use the dataset. `tokens_per_s` is the speed that the estimate assumes."""

    epochs: float
    batch_size: int
    max_length: int
    tokens_per_s: float


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
    sizes, refused = _sizes(dataset, encoder)
    wanted = plan(parts.training)
    return Report(
        format=dataset.format,
        count=len(dataset),
        kind=_kind(dataset),
        faults=sorted([*faults, *refused], key=lambda one: (one.line, one.column)),
        tokens=_tokens(dataset, sizes),
        too_long=_too_long(dataset, sizes, wanted.max_length),
        duplicates=_duplicates(dataset),
        held_out=_held_out(parts, testing is not None) | _listed(testing_faults),
        overlap=_overlap(parts),
        rendered=_rendered(dataset, encoder),
        estimate=_estimate(sizes, parts.training, wanted),
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


def _sizes(dataset: Dataset, encoder: Encoder | None) -> tuple[Sizes, list[Fault]]:
    """Return the sizes of the examples, and the faults of those that cannot be encoded."""
    sizes: Sizes = {}
    faults: list[Fault] = []
    if encoder is None:
        return sizes, faults
    for example, line in zip(dataset.examples, dataset.lines, strict=True):
        try:
            sizes[example] = sizes.get(example) or encoder.size(example)
        except TemplateError as err:
            faults.append(Fault(line, 1, None, f"the model's chat template refuses these messages: {err}"))
        except UnspellableText as err:
            faults.append(Fault(line, 1, None, str(err)))
    return sizes, faults


def _tokens(dataset: Dataset, sizes: Sizes) -> dict[str, int] | None:
    if not sizes:
        return None
    found = [sizes[one] for one in dataset.examples if one in sizes]
    longest = sorted(one.longest for one in found)
    return {
        "min": longest[0],
        "median": longest[len(longest) // 2],
        "p95": longest[ceil(0.95 * len(longest)) - 1],
        "max": longest[-1],
        "total": sum(one.total for one in found),
        "learned": sum(one.learned for one in found),
    }


def _too_long(dataset: Dataset, sizes: Sizes, max_length: int) -> dict[str, Any] | None:
    if not sizes:
        return None
    known = [(sizes[one], line) for one, line in zip(dataset.examples, dataset.lines, strict=True) if one in sizes]
    lines = [line for size, line in known if size.longest > max_length]
    share = round(len(lines) / len(known), 4)
    return {"max_length": max_length, "count": len(lines), "share": share, "lines": lines[:MAX_LINES]}


def _duplicates(dataset: Dataset) -> dict[str, Any]:
    groups = Groups(len(dataset))
    groups.join_equal(_said(one) for one in dataset.examples)
    found = [[dataset.lines[index] for index in group] for group in groups.members() if len(group) > 1]
    return {"count": sum(map(len, found)) - len(found), "groups": [one[:MAX_LINES] for one in found[:MAX_LINES]]}


def _said(example: Example) -> tuple[str, ...]:
    rejected = getattr(example, "rejected", "")
    return prompt_text(example), normalised(example.response), normalised(rejected)


def _held_out(parts: Split, is_given: bool) -> dict[str, Any]:
    count, total = len(parts.held_out), len(parts.held_out) + len(parts.training)
    return {
        "source": "given" if is_given else "split",
        "count": count,
        "share": round(count / total, 4) if total else 0.0,
        "lines": list(parts.held_out.lines[:MAX_LINES]),
        "grouped_by": None if is_given else parts.grouped_by,
    }


def _overlap(parts: Split) -> dict[str, Any]:
    """Find the held-out questions that are also asked in training, in the same or nearly the same words."""
    if parts.grouped_by in ("response and wording", "wording"):
        return {"count": 0, "examples": []}  # such questions were kept on one side
    examples = [*parts.training.examples, *parts.held_out.examples]
    first = len(parts.training)
    leaks: dict[int, int] = {}
    for one, other in near_duplicates([prompt_text(example) for example in examples]):
        if one < first <= other:
            leaks.setdefault(other - first, one)
    shown = sorted(leaks.items())[:MAX_LINES]
    lines = [{"line": parts.held_out.lines[one], "training_line": parts.training.lines[other]} for one, other in shown]
    return {"count": len(leaks), "examples": lines}


def _rendered(dataset: Dataset, encoder: Encoder | None) -> Sequence[dict[str, Any]]:
    if encoder is None:
        return []
    found: list[dict[str, Any]] = []
    for example, line in zip(dataset.examples[:NUM_RENDERED], dataset.lines, strict=False):
        try:
            sequences = encoder.render(example)[:NUM_RENDERED]
            found += [{"line": line, "parts": list(_shortened(parts))} for parts in sequences]
        except (TemplateError, UnspellableText):
            continue  # it is among the faults
    return found


def _shortened(parts: Sequence[tuple[str, bool]]) -> Iterator[dict[str, Any]]:
    """Yield the first `MAX_RENDERED_CHARS` of a sequence, and how many more there are."""
    room = MAX_RENDERED_CHARS
    for text, loss in parts:
        if room > 0:
            yield {"text": text[:room], "loss": loss}
        room -= len(text)
    if room < 0:
        yield {"text": f"... ({-room} more characters)", "loss": False}


def _estimate(sizes: Sizes, training: Dataset, plan: Plan) -> dict[str, Any] | None:
    if not sizes:
        return None
    used = [size for one in training.examples if (size := sizes.get(one)) and size.longest <= plan.max_length]
    tokens = round(plan.epochs * sum(one.total for one in used))
    return {
        "steps": ceil(plan.epochs * ceil(sum(one.rows for one in used) / plan.batch_size)),
        "epochs": plan.epochs,
        "batch_size": plan.batch_size,
        "tokens": tokens,
        "tokens_per_s": plan.tokens_per_s,
        "seconds": round(tokens / plan.tokens_per_s),
    }
