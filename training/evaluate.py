"""Measures models side by side on a dataset: perplexity and task scores, all with the same seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from training.data import Dataset


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model to evaluate: the base, or the base with an adapter.

    Attributes:
        name: for the result.
        adapter: the adapter's folder; None: the base alone.
    """

    name: str
    adapter: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """One model's scores on a dataset.

    Attributes:
        name: the candidate's.
        loss: mean cross-entropy per response token, in nats.
        perplexity: `exp(loss)`.
        token_accuracy: share of response tokens that are the model's first choice.
        exact: share of examples with a greedy answer of the same words as the expected response.
        overlap: mean F1 of the words of the greedy answer and of the expected response.
        examples: evaluated.
        left_out: examples longer than the limit, for which there are only answers.
    """

    name: str
    loss: float
    perplexity: float
    token_accuracy: float
    exact: float
    overlap: float
    examples: int
    left_out: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The scores of all candidates, in their order."""

    scores: tuple[Scores, ...]
    seed: int

    def to_json(self) -> dict[str, Any]:
        """Return `{"seed": ..., "models": [{"name": ..., "loss": ..., ...}, ...]}`."""
        return {"seed": self.seed, "models": [asdict(scores) for scores in self.scores]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What bounds an evaluation.

    Attributes:
        examples: evaluated at most, chosen by the seed.
        tokens: of an example; longer ones have no loss.
        answer_tokens: of a greedy answer.
    """

    examples: int = 200
    tokens: int = 1024
    answer_tokens: int = 64


class EvaluationEvents(Protocol):
    """Is told how an evaluation goes, and may end it."""

    def evaluated(self, name: str, done: int, total: int) -> None:
        """`done` of `total` texts of the part `name` are measured."""

    def should_stop(self) -> bool:
        """Asked after each batch. True: `Stopped` is raised."""


def evaluate(
    base: Path,
    candidates: Sequence[Candidate],
    dataset: Dataset,
    events: EvaluationEvents,
    *,
    limits: Limits | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> Evaluation:
    """Evaluate each candidate on the same examples of the dataset.

    Raises:
        FineTuningError: the base, an adapter or the dataset cannot be used.
        Stopped: `events.should_stop()` returned True.
    """
    from training.scoring import evaluate_all  # loads torch

    return evaluate_all(base, candidates, dataset, events, limits or Limits(), seed, device)
