"""Computes the scores of `training.evaluate`."""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from models.errors import DatasetError
from training.base import read_base
from training.data import Conversation, Dataset, Example, Message
from training.evaluate import Candidate, Evaluation, EvaluationEvents, Limits, Scores
from training.likelihood import answers, likelihoods, mean_loss
from training.rows import conversation_rows
from training.versions import Version, meter, versions

_WORD = re.compile(r"\w+")


def evaluate_all(
    base: Path,
    candidates: Sequence[Candidate],
    dataset: Dataset,
    events: EvaluationEvents,
    limits: Limits,
    seed: int,
    device: str,
) -> Evaluation:
    """Score each candidate on the same examples. Raises as `training.evaluate.evaluate`."""
    read = read_base(str(base), base.name)
    chosen = _conversations(_some(dataset, limits.examples, seed))
    length = read.limit(limits.tokens)
    scores = [
        _scores(version, chosen, events, length, limits.answer_tokens) for version in versions(read, candidates, device)
    ]
    return Evaluation(scores=tuple(scores), seed=seed)


def _some(dataset: Dataset, count: int, seed: int) -> Dataset:
    indices = range(len(dataset))
    return dataset.only(random.Random(seed).sample(indices, min(count, len(dataset))))  # noqa: S311 - no secret


def _conversations(dataset: Dataset) -> Dataset:
    """Return the dataset with the chosen response of each preference pair as a conversation."""
    return Dataset(dataset.format, tuple(map(_conversation, dataset.examples)), dataset.lines)


def _conversation(example: Example) -> Conversation:
    if isinstance(example, Conversation):
        return example
    return Conversation((*example.prompt, Message("assistant", example.chosen, is_learned=True)))


def _scores(version: Version, dataset: Dataset, events: EvaluationEvents, length: int, answer_tokens: int) -> Scores:
    rows, left_out = conversation_rows(dataset, version.encoder, length)
    if not rows:
        raise DatasetError(f"Every example is longer than {length} tokens: nothing to evaluate.")
    found = likelihoods(version.model, rows, meter(events, f"{version.name}: loss"))
    prompts = [version.encoder.prompt_ids(one.prompt)[-length:] for one in dataset.examples]
    given = answers(version.model, version.tokenizer, prompts, answer_tokens, meter(events, f"{version.name}: answers"))
    texts = [one.text for one in given]
    expected = [one.response for one in dataset.examples]
    loss = mean_loss(found)
    return Scores(
        name=version.name,
        loss=loss,
        perplexity=math.exp(min(loss, 700)),  # a float ends at exp(709)
        token_accuracy=sum(one.correct for one in found) / sum(one.tokens for one in found),
        exact=_mean([float(words(one) == words(other)) for one, other in zip(texts, expected, strict=True)]),
        overlap=_mean([overlap(one, other) for one, other in zip(texts, expected, strict=True)]),
        examples=len(dataset),
        left_out=left_out,
    )


def words(text: str) -> list[str]:
    """Return the words in lower case; texts without words, such as formulas, in one piece."""
    return _WORD.findall(text.casefold()) or [text.strip()]


def overlap(answer: str, expected: str) -> float:
    """Return the F1 of the words of both: 1 if they are the same in any order, 0 if none is common."""
    one, other = Counter(words(answer)), Counter(words(expected))
    return 2 * (one & other).total() / (one.total() + other.total())


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
