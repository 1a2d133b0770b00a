"""Measures the base, the current version and the candidate with the same texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from training.base import read_base
from training.data import Dataset, Encoder, Row
from training.data.examples import Message
from training.evaluate import Candidate, EvaluationEvents
from training.gate.prompts import FixedPrompt
from training.gate.questions import general_questions, general_text
from training.likelihood import AfterBatch, answers, likelihoods, mean_loss
from training.rows import conversation_rows, preference_rows
from training.versions import Version, meter, versions

TEXT_PART = 256  # tokens; the general text is measured in parts of this length
ANSWER_TOKENS = 256  # of an answer to one of the user's prompts
MAX_TRAINED = 100  # trained examples that are measured
BY_HEART = 40  # a dataset of fewer examples is there to be learned by heart


@dataclass(frozen=True, slots=True)
class Examples:
    """The examples that the candidate was trained on, and those that it was not."""

    trained: Dataset
    held_out: Dataset


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """One version's values.

    Attributes:
        trained: of the trained examples, the share of response tokens that are the model's first choice; of preference
            pairs, the share with the chosen response likelier per token than the rejected one.
        held_out: mean loss per response token, in nats; of preference pairs, how much likelier (nats per token) the
            rejected response is than the chosen one. Lower is better in both cases.
        general_text: mean loss per token, in nats.
        general_questions: share with the right answer.
        prompts: share of the user's prompts with a good answer; None if there are none.
    """

    trained: float
    held_out: float
    general_text: float
    general_questions: float
    prompts: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """The measures of all versions; `current` is None if nothing is replaced.

    `by_heart` says whether the dataset is so small that its responses are to be learned word for word.
    """

    base: Measures
    current: Measures | None
    candidate: Measures
    num_questions: int
    num_prompts: int
    by_heart: bool


def measure_all(
    base: Path,
    candidate: Path,
    current: Path | None,
    examples: Examples,
    prompts: Sequence[FixedPrompt],
    events: EvaluationEvents,
    device: str,
    max_length: int,
) -> Comparison:
    """Measure all versions. Raises as `training.gate.compare.compare`."""
    read = read_base(str(base), base.name)
    models = [
        Candidate("base"),
        *([Candidate("current", current)] if current else []),
        Candidate("candidate", candidate),
    ]
    limit = read.limit(max_length)
    found = {one.name: _measure(one, examples, prompts, events, limit) for one in versions(read, models, device)}
    return Comparison(
        found["base"],
        found.get("current"),
        found["candidate"],
        num_questions=len(general_questions()),
        num_prompts=len(prompts),
        by_heart=len(examples.trained) < BY_HEART and not examples.trained.is_preference,
    )


def _measure(
    version: Version, examples: Examples, prompts: Sequence[FixedPrompt], events: EvaluationEvents, limit: int
) -> Measures:
    return Measures(
        trained=_trained(version, examples.trained, limit, meter(events, f"{version.name}: trained examples")),
        held_out=_held_out(version, examples.held_out, limit, meter(events, f"{version.name}: held-out examples")),
        general_text=_text(version, meter(events, f"{version.name}: general text")),
        general_questions=_questions(version, meter(events, f"{version.name}: general questions")),
        prompts=_prompts(version, prompts, meter(events, f"{version.name}: your prompts")),
    )


def _trained(version: Version, dataset: Dataset, limit: int, after: AfterBatch) -> float:
    some = dataset.only(range(min(MAX_TRAINED, len(dataset))))
    if some.is_preference:
        differences = _differences(version, some, limit, after)
        return sum(one < 0 for one in differences) / max(1, len(differences))
    rows, _ = conversation_rows(some, version.encoder, limit)
    found = likelihoods(version.model, rows, after)
    return sum(one.correct for one in found) / max(1, sum(one.tokens for one in found))


def _held_out(version: Version, dataset: Dataset, limit: int, after: AfterBatch) -> float:
    if dataset.is_preference:
        differences = _differences(version, dataset, limit, after)
        return sum(differences) / max(1, len(differences))
    rows, _ = conversation_rows(dataset, version.encoder, limit)
    return mean_loss(likelihoods(version.model, rows, after))


def _differences(version: Version, dataset: Dataset, limit: int, after: AfterBatch) -> list[float]:
    """Return for each preference pair how much likelier (nats per token) the rejected response is."""
    pairs, _ = preference_rows(dataset, version.encoder, limit)
    rows = [_response(pair.prompt, ids) for pair in pairs for ids in (pair.chosen, pair.rejected)]
    losses = [one.loss / one.tokens for one in likelihoods(version.model, rows, after)]
    return [chosen - rejected for chosen, rejected in zip(losses[::2], losses[1::2], strict=True)]


def _text(version: Version, after: AfterBatch) -> float:
    ids = version.encoder.conversations.texts.part_ids(general_text())
    parts = [ids[start : start + TEXT_PART] for start in range(0, len(ids), TEXT_PART)]
    return mean_loss(likelihoods(version.model, [Row(part, [True] * len(part)) for part in parts], after))


def _questions(version: Version, after: AfterBatch) -> float:
    """Return the share of questions whose right answer has the lowest loss per token of all choices."""
    rows: list[Row] = []
    questions = general_questions()
    for one in questions:
        prompt = _prompt(version.encoder, one.question)
        rows += [_response(prompt, version.encoder.response_ids(choice)) for choice in one.choices]
    losses = iter([one.loss / one.tokens for one in likelihoods(version.model, rows, after)])
    right = [_is_first([next(losses) for _ in one.choices]) for one in questions]
    return sum(right) / len(right)


def _is_first(losses: Sequence[float]) -> bool:
    return losses[0] < min(losses[1:])


def _prompts(version: Version, prompts: Sequence[FixedPrompt], after: AfterBatch) -> float | None:
    if not prompts:
        return None
    ids = [_prompt(version.encoder, one.prompt) for one in prompts]
    given = answers(version.model, version.tokenizer, ids, ANSWER_TOKENS, after)
    return sum(prompt.is_good(one.text) for prompt, one in zip(prompts, given, strict=True)) / len(prompts)


def _prompt(encoder: Encoder, text: str) -> list[int]:
    return encoder.prompt_ids([Message("user", text)])


def _response(prompt: list[int], response: list[int]) -> Row:
    return Row(prompt + response, [False] * len(prompt) + [True] * len(response))
