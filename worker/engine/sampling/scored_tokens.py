"""Puts tokens and their log probabilities together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from common.errors import InternalError, SLMError
from common.jobs.sampling import ALL_TOKENS, MAX_LOGPROBS
from worker.engine.sequence import SampledToken

NO_TOKEN = -1  # for a row without usable logits


@dataclass(frozen=True, slots=True)
class Scoring:
    """Which alternatives are returned with a token: the `num` most probable ones, or those in `token_ids`, if any."""

    num: int
    token_ids: tuple[int, ...] = ()

    @property
    def is_usual(self) -> bool:
        """Whether `MAX_LOGPROBS` of the most probable tokens suffice."""
        return not self.token_ids and self.num != ALL_TOKENS and self.num <= MAX_LOGPROBS

    def count(self, vocab_size: int) -> int:
        """Return how many of the most probable tokens to find.

        At least `MAX_LOGPROBS`, so that the order of ties does not depend on `num`.
        """
        return vocab_size if self.num == ALL_TOKENS else min(max(self.num, MAX_LOGPROBS), vocab_size)


def samples_of(
    tokens: list[int],
    *,
    errors: Mapping[int, SLMError] | None = None,
    scorings: Mapping[int, Scoring] | None = None,
    scores: Sequence[Any] = (),
) -> list[SampledToken | SLMError]:
    """Return one entry per row: the token, or an error that ends only its sequence.

    Args:
        tokens: NO_TOKEN for a row without usable logits.
        errors: by row, replace the tokens.
        scorings: by row, ascending: which alternatives to return.
        scores: the lists of `log_probabilities.Scores`, of the rows in `scorings`.
    """
    chosen = [SampledToken(token) for token in tokens]
    if scorings:
        scored = scored_tokens([tokens[row] for row in scorings], *scores, scorings=list(scorings.values()))
        for row, sample in zip(scorings, scored, strict=True):
            chosen[row] = sample
    samples: list[SampledToken | SLMError] = [
        # NaN, or all tokens are forbidden.
        InternalError("The model computed no usable probabilities.") if sample.token_id == NO_TOKEN else sample
        for sample in chosen
    ]
    for row, error in (errors or {}).items():
        samples[row] = error
    return samples


def scored_tokens(
    tokens: list[int], chosen: list[float], ids: list[list[int]], best: list[list[float]], *, scorings: list[Scoring]
) -> list[SampledToken]:
    """Return the chosen tokens with their log probabilities and those of their alternatives.

    Args:
        tokens: the chosen tokens.
        chosen: as in `log_probabilities.Scores`.
        ids: as in `log_probabilities.Scores`, maybe more for some rows than for others.
        best: the log probabilities of `ids`.
        scorings: which alternatives to return for each row.
    """
    return [
        SampledToken(token, logprob, _alternatives((token, logprob), row_ids, row_logprobs, scoring))
        for token, logprob, row_ids, row_logprobs, scoring in zip(tokens, chosen, ids, best, scorings, strict=True)
    ]


def _alternatives(
    chosen: tuple[int, float], ids: list[int], logprobs: list[float], scoring: Scoring
) -> tuple[tuple[int, float], ...]:
    """Return the pairs without tokens of probability 0, which have no finite logarithm."""
    pairs = list(zip(ids, logprobs, strict=True))
    if scoring.token_ids:
        pairs += [] if chosen[0] in ids else [chosen]
    elif scoring.num != ALL_TOKENS:
        pairs = pairs[: scoring.num]
    return tuple((token_id, logprob) for token_id, logprob in pairs if math.isfinite(logprob))
