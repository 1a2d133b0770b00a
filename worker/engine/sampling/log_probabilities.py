"""Computes log probabilities of the chosen tokens and of their most probable alternatives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from common.jobs.sampling import MAX_LOGPROBS
from worker.engine.device.transfers import to_device
from worker.engine.sampling.topk import topk


class Scores(NamedTuple):
    """Log probabilities in the model's own distribution, before penalties, bias, temperature and filters."""

    chosen: Tensor  # [rows]
    ids: Tensor  # [rows, count], the most probable tokens, or those asked for
    best: Tensor  # [rows, count], their log probabilities; of the most probable tokens descending


def score(logits: Tensor, tokens: Tensor, count: int = MAX_LOGPROBS, token_ids: Sequence[int] = ()) -> Scores:
    """Compute the log-softmax of the logits.

    Args:
        logits: [rows, vocab], in 32 bits, unmodified from the model.
        tokens: [rows], the chosen tokens.
        count: how many of the most probable tokens to find.
        token_ids: look at these instead.
    """
    scale = logits.logsumexp(dim=-1, keepdim=True)
    if token_ids:
        ids = to_device(torch.tensor(token_ids), logits.device).expand(len(logits), -1)
        best = logits.gather(-1, ids)
    else:
        best, ids = topk(logits, count)
    chosen = logits.gather(-1, tokens[:, None]) - scale
    return Scores(chosen[:, 0], ids, best - scale)
