"""Turns logits into tokens for a whole batch."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from common.errors import SLMError
from worker.engine.device.errors import device_errors
from worker.engine.device.transfers import to_device
from worker.engine.sampling.log_probabilities import score
from worker.engine.sampling.logits_processors import apply_processors
from worker.engine.sampling.plans import Plan, plans_for, takes_most_probable
from worker.engine.sampling.random_sampling import draw, take_rows
from worker.engine.sampling.samples import Samples
from worker.engine.sampling.scored_tokens import NO_TOKEN, Scoring, scored_tokens
from worker.engine.sampling.settings import RandomSampling
from worker.engine.sampling.topk import row_max
from worker.engine.sequence import SampledToken, Sequence


class Sampler:
    """Chooses each row's token by its sequence's settings: greedy or sampled, after `logits_processors`."""

    def sample(
        self, logits: Tensor, sequences: list[Sequence], nums_drafts: list[int] | None = None
    ) -> list[SampledToken | SLMError]:
        """Choose a token for each row.

        Args:
            logits: [len(sequences), vocab_size], any float type; not modified.
            sequences: the owners of the rows.
            nums_drafts: how many draft tokens of its sequence come before each row's token; default: none.

        Returns:
            One entry per row: the token, or an error that ends only its sequence.
        """
        return self.start(logits, sequences, nums_drafts).fetch()

    def start(self, logits: Tensor, sequences: list[Sequence], nums_drafts: list[int] | None = None) -> Samples:
        """As `sample`, but on a CUDA device it waits for neither the logits nor the tokens before `fetch`.

        Constraints and penalties are evaluated now, so sequences that have them must know all their tokens.

        Raises:
            DeviceLostError: the device has failed, maybe while computing the logits.
            OutOfMemoryError: fewer rows may work.
        """
        with device_errors():
            return self._start(logits, list(zip(sequences, nums_drafts or [0] * len(sequences), strict=True)))

    def score(self, logits: Tensor, token_ids: list[int], num_top: int) -> list[SampledToken]:
        """Return the log probabilities of given tokens.

        Args:
            logits: [len(token_ids), vocab_size], those before each token.
            token_ids: the tokens.
            num_top: how many of the most probable tokens to return with each.
        """
        with device_errors():
            tokens = to_device(torch.tensor(token_ids), logits.device)
            scoring = Scoring(num_top)
            scores = score(logits.float(), tokens, scoring.count(logits.shape[-1]))
            chosen, ids, best = (tensor.tolist() for tensor in scores)
        return scored_tokens(token_ids, chosen, ids, best, scorings=[scoring] * len(token_ids))

    def _start(self, logits: Tensor, rows: list[tuple[Sequence, int]]) -> Samples:
        if all(takes_most_probable(sequence, num_drafts) for sequence, num_drafts in rows):
            return _most_probable(logits)
        plans, errors = plans_for(rows, logits.shape[-1])
        return _choose(logits.float(), plans, errors)


def _most_probable(logits: Tensor) -> Samples:
    """Choose greedily for the whole batch, in one pass over the logits and without a copy."""
    return Samples(_pick(logits, [None] * len(logits)))


def _choose(logits: Tensor, plans: list[Plan], errors: dict[int, SLMError]) -> Samples:
    """Choose the tokens for logits [rows, vocab] in 32 bits."""
    processors = {row: plan.processor for row, plan in enumerate(plans) if plan.processor is not None}
    tokens = _pick(apply_processors(logits, processors), [plan.sampling for plan in plans])
    if processors:  # they may have hidden logits that are not finite
        tokens = tokens.masked_fill(~logits.amax(dim=-1).isfinite(), NO_TOKEN)
    scorings = {row: plan.scoring for row, plan in enumerate(plans) if plan.scoring is not None}
    rows = list(scorings)
    scores = score(take_rows(logits, rows), take_rows(tokens, rows).clamp(min=0)) if rows else None
    special = {
        row: score(logits[row][None], tokens[row][None].clamp(min=0), one.count(logits.shape[-1]), one.token_ids)
        for row, one in scorings.items()
        if not one.is_usual
    }
    return Samples(tokens, errors=errors, scorings=scorings, scores=scores, special=special)


def _pick(logits: Tensor, samplings: list[RandomSampling | None]) -> Tensor:
    """Return each row's token, [rows]: the most probable one if its sampling is None."""
    if logits.is_cuda and (pick := _fused_pick()) is not None:
        return pick(logits, samplings)
    random = {row: sampling for row, sampling in enumerate(samplings) if sampling is not None}
    if random and len(random) == len(samplings):
        best, tokens = logits.amax(dim=-1), draw(logits, list(random.values()))
    else:
        best, tokens = row_max(logits)
        if random:
            rows = to_device(torch.tensor(list(random)), logits.device)
            tokens[rows] = draw(logits[rows], list(random.values()))
    return tokens.masked_fill_(~best.isfinite(), NO_TOKEN)


@cache
def _fused_pick() -> Callable[[Tensor, list[RandomSampling | None]], Tensor] | None:
    """Return a function that does the same in one launch; None if Triton is not installed."""
    try:
        from worker.engine.sampling.fused import pick
    except ImportError:
        return None
    return pick
