"""Loads a base once and shows it with one adapter after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from training.base import Base, load_weights
from training.data import Encoder
from training.errors import Stopped
from training.evaluate import Candidate, EvaluationEvents
from training.likelihood import AfterBatch
from training.lora import load_adapter


@dataclass(frozen=True, slots=True)
class Version:
    """A model that is ready to be measured, with the encoder of its own chat template."""

    name: str
    model: Any
    encoder: Encoder
    tokenizer: Any


def versions(base: Base, candidates: Sequence[Candidate], device: str) -> Iterator[Version]:
    """Yield each candidate; a version is only valid until the next one.

    Raises:
        FineTuningError: the base or an adapter cannot be used.
    """
    model = load_weights(base, device).eval()
    for one in candidates:
        if one.adapter is None:
            yield Version(one.name, model, base.encoder(), base.tokenizer)
        else:
            adapted = load_adapter(model, base, one.adapter).eval()
            yield Version(one.name, adapted, base.encoder(one.adapter), base.tokenizer)
            model = adapted.unload()


def meter(events: EvaluationEvents, name: str) -> AfterBatch:
    """Return what to call after each batch: it reports, and raises `Stopped` if asked to stop."""

    def report(done: int, total: int) -> None:
        events.evaluated(name, done, total)
        if events.should_stop():
            raise Stopped

    return report
