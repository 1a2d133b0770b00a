"""Holds a model that is trained to its base, so that it does not forget what the base knew.

In each step the adapted model and the base read the same few general texts. How far their predictions are apart is
added to the loss: learning without forgetting (Li and Hoiem, 2016), with the base as the teacher. Unlike general
examples that are merely mixed in, it teaches nothing about these texts, and each of their tokens holds the whole
distribution over the vocabulary in place.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import kl_div

ROWS = 4  # texts of each step


class Anchor:
    """The general texts, in an order that follows from the seed.

    Args:
        sequences: token ids; at least one.
        weight: of the divergence in the loss.
    """

    def __init__(self, sequences: Sequence[list[int]], weight: float, seed: int) -> None:
        self._sequences = random.Random(seed).sample(sequences, len(sequences))  # noqa: S311 - no secret
        self._weight = weight

    def loss(self, model: Any, step: int) -> torch.Tensor:
        """Return the weighted mean divergence per token, in nats, of the step's texts.

        Which texts these are follows from the step alone, so a continued run sees the same.

        Args:
            model: with an adapter, in training mode.
            step: from 0.
        """
        texts = self._of(step)
        longest = max(map(len, texts))
        ids = torch.tensor([text + [0] * (longest - len(text)) for text in texts], device=model.device)
        mask = torch.tensor([[1] * len(text) + [0] * (longest - len(text)) for text in texts], device=model.device)
        expected = _log_probabilities(_base_logits(model, ids, mask), mask)
        found = _log_probabilities(model(input_ids=ids, attention_mask=mask).logits, mask)
        return self._weight * kl_div(found, expected, reduction="batchmean", log_target=True)

    def _of(self, step: int) -> list[list[int]]:
        size = len(self._sequences)
        return [self._sequences[index % size] for index in range(step * ROWS, step * ROWS + min(ROWS, size))]


@torch.no_grad()
def _base_logits(model: Any, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the logits of the base, whose own dropout is off."""
    with model.eval().disable_adapter():
        logits: torch.Tensor = model(input_ids=ids, attention_mask=mask).logits
    model.train()
    return logits


def _log_probabilities(logits: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the log-probabilities after each token that is not padding: tokens x vocabulary."""
    return torch.log_softmax(logits[mask.bool()].float(), -1)
