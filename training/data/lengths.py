"""Token lengths: of examples, of what is too long, and of a whole training."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Any

from jinja2 import TemplateError

from models.errors import UnspellableText
from training.data.encoding import Encoder, Sized
from training.data.examples import Dataset, Example
from training.data.faults import MAX_LINES, Fault

Sizes = dict[Example, Sized]  # empty if there is no tokenizer


@dataclass(frozen=True, slots=True)
class Plan:
    """How a training would use the dataset. `tokens_per_s` is the speed that the estimate assumes."""

    epochs: float
    batch_size: int
    max_length: int
    tokens_per_s: float


def sizes_of(dataset: Dataset, encoder: Encoder | None) -> tuple[Sizes, list[Fault]]:
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


def token_lengths(dataset: Dataset, sizes: Sizes) -> dict[str, int] | None:
    """Return the report's `tokens`."""
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


def too_long(dataset: Dataset, sizes: Sizes, max_length: int) -> dict[str, Any] | None:
    """Return the report's `too_long`."""
    if not sizes:
        return None
    known = [(sizes[one], line) for one, line in zip(dataset.examples, dataset.lines, strict=True) if one in sizes]
    lines = [line for size, line in known if size.longest > max_length]
    share = round(len(lines) / len(known), 4)
    return {"max_length": max_length, "count": len(lines), "share": share, "lines": lines[:MAX_LINES]}


def estimate(sizes: Sizes, training: Dataset, plan: Plan) -> dict[str, Any] | None:
    """Return the report's `estimate`, for the examples that are trained."""
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
