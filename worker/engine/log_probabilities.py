"""Log probabilities of the tokens that were chosen, and of those that might have been."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor

from common.sampling import MAX_LOGPROBS
from worker.engine.largest import largest
from worker.engine.sequence import SampledToken


class Scores(NamedTuple):
    """Log probabilities of some rows: the model's own, before penalties, bias, temperature and filters."""

    chosen: Tensor  # [rows]
    ids: Tensor  # [rows, MAX_LOGPROBS], the most probable tokens
    best: Tensor  # [rows, MAX_LOGPROBS], theirs, descending


def score(logits: Tensor, tokens: Tensor) -> Scores:
    """The log-softmax of the logits.

    Args:
        logits: [rows, vocab], in 32 bits, as the model gave them.
        tokens: [rows], the chosen ones.
    """
    scale = logits.logsumexp(dim=-1, keepdim=True)
    # Always as many, so that the order of equal ones does not depend on what the others ask for.
    best, ids = largest(logits, MAX_LOGPROBS)
    chosen = logits.gather(-1, tokens[:, None]) - scale
    return Scores(chosen[:, 0], ids, best - scale)


def told(
    tokens: list[int], chosen: list[float], ids: list[list[int]], best: list[list[float]], *, nums: list[int]
) -> list[SampledToken]:
    """The chosen tokens with their log probabilities and those of the most probable tokens.

    Args:
        tokens: the chosen ones.
        chosen: as in `Scores`.
        ids: as in `Scores`.
        best: as in `Scores`.
        nums: for each row, how many alternatives to tell; at most `MAX_LOGPROBS`.
    """
    return [
        SampledToken(token, logprob, _top(top_ids[:num], top_logprobs[:num]))
        for token, logprob, top_ids, top_logprobs, num in zip(tokens, chosen, ids, best, nums, strict=True)
    ]


def _top(ids: list[int], logprobs: list[float]) -> tuple[tuple[int, float], ...]:
    """Without the tokens that the model rules out: they have no logarithm."""
    pairs = zip(ids, logprobs, strict=True)
    return tuple((token_id, logprob) for token_id, logprob in pairs if math.isfinite(logprob))
