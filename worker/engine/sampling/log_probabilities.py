"""Computes log probabilities of the chosen tokens and of their most probable alternatives."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from common.jobs.sampling import MAX_LOGPROBS
from worker.engine.sampling.topk import topk


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
