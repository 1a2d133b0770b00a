"""Computes log probabilities of the chosen tokens and of their most probable alternatives."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor

from common.jobs.sampling import MAX_LOGPROBS
from worker.engine.sampling.topk import topk
from worker.engine.sequence import SampledToken


class Scores(NamedTuple):
    """Log probabilities in the model's own distribution, before penalties, bias, temperature and filters."""

    chosen: Tensor  # [rows]
    ids: Tensor  # [rows, MAX_LOGPROBS], the most probable tokens
    best: Tensor  # [rows, MAX_LOGPROBS], their log probabilities, descending


def score(logits: Tensor, tokens: Tensor) -> Scores:
    """Compute the log-softmax of the logits.

    Args:
        logits: [rows, vocab], in 32 bits, unmodified from the model.
        tokens: [rows], the chosen tokens.
    """
    scale = logits.logsumexp(dim=-1, keepdim=True)
    # Always the same number, so that the order of ties does not depend on the other rows' requests.
    best, ids = topk(logits, MAX_LOGPROBS)
    chosen = logits.gather(-1, tokens[:, None]) - scale
    return Scores(chosen[:, 0], ids, best - scale)


def scored_tokens(
    tokens: list[int], chosen: list[float], ids: list[list[int]], best: list[list[float]], *, nums: list[int]
) -> list[SampledToken]:
    """Return the chosen tokens with their log probabilities and those of the most probable tokens.

    Args:
        tokens: the chosen tokens.
        chosen: as in `Scores`.
        ids: as in `Scores`.
        best: as in `Scores`.
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
