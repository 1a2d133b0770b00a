"""Log probabilities of the tokens that were chosen, and of those that might have been."""

from __future__ import annotations

import math

from torch import Tensor

from common.sampling import MAX_LOGPROBS
from worker.engine.largest import largest
from worker.engine.sampled_token import SampledToken


def with_logprobs(logits: Tensor, tokens: Tensor, nums: list[int]) -> list[SampledToken]:
    """The chosen tokens with their log probabilities and those of the most probable tokens.

    They are the model's own: the log-softmax of its logits, before penalties, bias, temperature and filters.

    Args:
        logits: [rows, vocab], in 32 bits, as the model gave them.
        tokens: [rows], the chosen ones.
        nums: for each row, how many alternatives to tell; at most `MAX_LOGPROBS`.
    """
    scale = logits.logsumexp(dim=-1, keepdim=True)
    # Always as many, so that the order of equal ones does not depend on what the others ask for.
    best, ids = largest(logits, MAX_LOGPROBS)
    chosen = logits.gather(-1, tokens[:, None]) - scale
    told = zip(tokens.tolist(), chosen[:, 0].tolist(), ids.tolist(), (best - scale).tolist(), nums, strict=True)
    return [
        SampledToken(token, logprob, _top(top_ids[:num], top_logprobs[:num]))
        for token, logprob, top_ids, top_logprobs, num in told
    ]


def _top(ids: list[int], logprobs: list[float]) -> tuple[tuple[int, float], ...]:
    """Without the tokens that the model rules out: they have no logarithm."""
    pairs = zip(ids, logprobs, strict=True)
    return tuple((token_id, logprob) for token_id, logprob in pairs if math.isfinite(logprob))
