"""Puts tokens and their log probabilities together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from common.errors import InternalError, SLMError
from worker.engine.sequence import SampledToken

NO_TOKEN = -1  # for a row without usable logits


def samples_of(
    tokens: list[int],
    *,
    errors: Mapping[int, SLMError] | None = None,
    nums: Mapping[int, int] | None = None,
    scores: Sequence[Any] = (),
) -> list[SampledToken | SLMError]:
    """Return one entry per row: the token, or an error that ends only its sequence.

    Args:
        tokens: NO_TOKEN for a row without usable logits.
        errors: by row, replace the tokens.
        nums: by row, ascending: how many alternatives to return.
        scores: the lists of `log_probabilities.Scores`, of the rows in `nums`.
    """
    chosen = [SampledToken(token) for token in tokens]
    if nums:
        scored = scored_tokens([tokens[row] for row in nums], *scores, nums=list(nums.values()))
        for row, sample in zip(nums, scored, strict=True):
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
    tokens: list[int], chosen: list[float], ids: list[list[int]], best: list[list[float]], *, nums: list[int]
) -> list[SampledToken]:
    """Return the chosen tokens with their log probabilities and those of the most probable tokens.

    Args:
        tokens: the chosen tokens.
        chosen: as in `log_probabilities.Scores`.
        ids: as in `log_probabilities.Scores`.
        best: as in `log_probabilities.Scores`.
        nums: how many alternatives to return for each row; at most `MAX_LOGPROBS`.
    """
    return [
        SampledToken(token, logprob, _top(top_ids[:num], top_logprobs[:num]))
        for token, logprob, top_ids, top_logprobs, num in zip(tokens, chosen, ids, best, nums, strict=True)
    ]


def _top(ids: list[int], logprobs: list[float]) -> tuple[tuple[int, float], ...]:
    """Return the pairs without tokens of probability 0, which have no finite logarithm."""
    pairs = zip(ids, logprobs, strict=True)
    return tuple((token_id, logprob) for token_id, logprob in pairs if math.isfinite(logprob))
