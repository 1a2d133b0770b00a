"""Shows examples exactly as a model will see them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from jinja2 import TemplateError

from models.errors import UnspellableText
from training.data.encoding import Encoder
from training.data.examples import Dataset

NUM_RENDERED = 3
MAX_RENDERED_CHARS = 20_000  # of one sequence


def rendered(dataset: Dataset, encoder: Encoder | None) -> Sequence[dict[str, Any]]:
    """Return the report's `examples_rendered`; those that cannot be encoded are among its faults."""
    if encoder is None:
        return []
    found: list[dict[str, Any]] = []
    for example, line in zip(dataset.examples[:NUM_RENDERED], dataset.lines, strict=False):
        try:
            sequences = encoder.render(example)[:NUM_RENDERED]
            found += [{"line": line, "parts": list(_shortened(parts))} for parts in sequences]
        except (TemplateError, UnspellableText):
            continue
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
