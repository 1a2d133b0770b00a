"""From logits to tokens, for a whole batch at once."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import torch
from torch import Tensor

from common.errors import InternalError
from worker.engine.largest import row_max
from worker.engine.log_probabilities import with_logprobs
from worker.engine.logit_edits import LogitEdit, edit_for, edited, is_edited
from worker.engine.random_choice import RandomChoice, draw, take_rows
from worker.engine.sampled_token import SampledToken
from worker.engine.sequence import Sequence
from worker.engine.uniform import uniform

logger = logging.getLogger(__name__)

_UNUSABLE = -1  # in the place of a token


@dataclass(frozen=True, slots=True)
class _Plan:
    """How one row of the logits is turned into a token."""

    edit: LogitEdit | None
    choice: RandomChoice | None  # None: the most probable token
    num_logprobs: int | None  # None: no log probabilities


_MOST_PROBABLE = _Plan(edit=None, choice=None, num_logprobs=None)


class Sampler:
    """Chooses each row's token by its sequence's own settings: most probable or random, after `logit_edits`.

    Args:
        eos_token_ids: the tokens that `min_new_tokens` holds back.
    """

    def __init__(self, eos_token_ids: frozenset[int]) -> None:
        self._eos_token_ids = eos_token_ids

    def sample(self, logits: Tensor, sequences: list[Sequence]) -> list[SampledToken | InternalError]:
        """Choose the next token of every sequence.

        Args:
            logits: [len(sequences), vocab_size], any float type; left as they are.
            sequences: the rows' owners.

        Returns:
            One entry per sequence: the token, or the error that ends that sequence and no other.
        """
        if all(_takes_most_probable(sequence) for sequence in sequences):
            return _most_probable(logits)
        plans = [self._plan(sequence, logits.shape[-1]) for sequence in sequences]
        samples = _choose(logits.float(), [_MOST_PROBABLE if isinstance(p, InternalError) else p for p in plans])
        return [p if isinstance(p, InternalError) else sample for p, sample in zip(plans, samples, strict=True)]

    def _plan(self, sequence: Sequence, vocab_size: int) -> _Plan | InternalError:
        """Read one sequence's settings. Whatever is wrong with them ends this sequence alone."""
        try:
            return _Plan(
                edit=edit_for(sequence, self._eos_token_ids, vocab_size) if is_edited(sequence) else None,
                choice=None if sequence.params.is_greedy else _random_choice(sequence),
                num_logprobs=sequence.params.logprobs,
            )
        except Exception:
            logger.exception("Sequence %s cannot be sampled.", sequence.sequence_id)
            return InternalError("The sampling parameters cannot be used.")


def _takes_most_probable(sequence: Sequence) -> bool:
    return sequence.params.is_greedy and sequence.params.logprobs is None and not is_edited(sequence)


def _random_choice(sequence: Sequence) -> RandomChoice:
    params = sequence.params
    return RandomChoice(
        temperature=float(params.temperature),
        top_k=int(params.top_k),
        top_p=float(params.top_p),
        min_p=float(params.min_p),
        point=uniform(params.seed, sequence.num_output_tokens),
    )


def _most_probable(logits: Tensor) -> list[SampledToken | InternalError]:
    """The way of a batch that asks for nothing else: one look at the logits, one transfer from the device."""
    best, tokens = row_max(logits)
    return [_sample(token) for token in torch.where(best.isfinite(), tokens, _UNUSABLE).tolist()]


def _choose(logits: Tensor, plans: list[_Plan]) -> list[SampledToken | InternalError]:
    """The tokens of [rows, vocab], in 32 bits."""
    edits = {row: plan.edit for row, plan in enumerate(plans) if plan.edit is not None}
    final = edited(logits, edits)
    best, tokens = row_max(final)
    random = {row: plan.choice for row, plan in enumerate(plans) if plan.choice is not None}
    if random:
        tokens[list(random)] = draw(take_rows(final, list(random)), list(random.values()))
    is_usable = best.isfinite() & row_max(logits)[0].isfinite() if edits else best.isfinite()
    samples = [_sample(token) for token in torch.where(is_usable, tokens, _UNUSABLE).tolist()]
    nums = {row: plan.num_logprobs for row, plan in enumerate(plans) if plan.num_logprobs is not None}
    if nums:
        rows = list(nums)
        told = with_logprobs(take_rows(logits, rows), tokens[rows], list(nums.values()))
        for row, sample in zip(rows, told, strict=True):
            samples[row] = sample if isinstance(samples[row], SampledToken) else samples[row]
    return samples


def _sample(token: int) -> SampledToken | InternalError:
    """An unusable row has NaN or infinity in it, or no token that may come."""
    if token == _UNUSABLE:
        return InternalError("The model computed no usable probabilities.")
    return SampledToken(token)
