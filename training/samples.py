"""What the model in training answers: to an example that it learns, and to a similar one that is held out.

The answers are kept beside the checkpoints, because another process may finish the run.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from training.base import Base
from training.checkpoints import write_whole
from training.data import Dataset, Encoder, Example
from training.likelihood import answers
from training.request import RunRequest, Sample
from training.rows import trainer_rows

SAMPLE_TOKENS = 48


class Sampler:
    """Asks the model.

    Args:
        folder: where the answers are kept.
    """

    def __init__(self, request: RunRequest, base: Base, folder: Path) -> None:
        self._encoder = base.encoder(request.start_from)
        self._tokenizer = base.tokenizer
        self._examples = list(_chosen(request, self._encoder, base.limit(request.recipe.max_length)))
        self._folder = folder

    def ask(self, model: Any, step: int) -> list[Sample]:
        """Return the model's answers at this step, and keep them."""
        prompts = [self._encoder.prompt_ids(example.prompt) for example, _ in self._examples]
        model.eval()
        found = answers(model, self._tokenizer, prompts, SAMPLE_TOKENS, lambda _done, _total: None)
        samples = [
            Sample(step, example.prompt[-1].content, example.response, answer.text, trained)
            for (example, trained), answer in zip(self._examples, found, strict=True)
        ]
        write_whole(_file(self._folder, step), [asdict(one) for one in samples])
        return samples


def read_samples(folder: Path, step: int) -> list[Sample]:
    """Return the answers that were kept at this step."""
    file = _file(folder, step)
    return [Sample(**one) for one in json.loads(file.read_text(encoding="utf-8"))] if file.is_file() else []


def _chosen(request: RunRequest, encoder: Encoder, limit: int) -> Iterator[tuple[Example, bool]]:
    """Yield the examples, and whether the model learns them."""
    for dataset, trained in ((request.dataset, True), (request.validation, False)):
        if dataset and (example := _first(dataset, encoder, limit)) is not None:
            yield example, trained


def _first(dataset: Dataset, encoder: Encoder, limit: int) -> Example | None:
    """Return the first example that is not left out."""
    kept = (one for index, one in enumerate(dataset.examples) if trainer_rows(dataset.only([index]), encoder, limit)[0])
    return next(kept, None)


def _file(folder: Path, step: int) -> Path:
    return folder / f"samples-{step}.json"
