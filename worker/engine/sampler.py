"""From logits to tokens, for a whole batch at once."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from common.errors import InternalError, SLMError
from worker.engine.largest import row_max
from worker.engine.log_probabilities import with_logprobs
from worker.engine.logit_edits import LogitEdit, edit_for, edited, is_edited
from worker.engine.random_choice import RandomChoice, draw, take_rows
from worker.engine.sampled_token import SampledToken
from worker.engine.sequence import Sequence
from worker.engine.uniform import uniform

logger = logging.getLogger(__name__)


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

    def sample(self, logits: Tensor, sequences: list[Sequence]) -> list[SampledToken | SLMError]:
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
        samples = _choose(logits.float(), [_MOST_PROBABLE if isinstance(p, SLMError) else p for p in plans])
        return [p if isinstance(p, SLMError) else sample for p, sample in zip(plans, samples, strict=True)]

    def _plan(self, sequence: Sequence, vocab_size: int) -> _Plan | SLMError:
        """Read one sequence's settings. Whatever is wrong with them ends this sequence alone."""
        try:
            return _Plan(
                edit=edit_for(sequence, self._eos_token_ids, vocab_size) if is_edited(sequence) else None,
                choice=None if sequence.params.is_greedy else _random_choice(sequence),
                num_logprobs=sequence.params.logprobs,
            )
        except SLMError as error:
            return error
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


def _most_probable(logits: Tensor) -> list[SampledToken | SLMError]:
    """The way of a batch that asks for nothing else: one look at the logits, no copy of them."""
    best, tokens = row_max(logits)
    return _checked(map(SampledToken, tokens.tolist()), best)


def _choose(logits: Tensor, plans: list[_Plan]) -> list[SampledToken | SLMError]:
    """The tokens of [rows, vocab], in 32 bits."""
    edits = {row: plan.edit for row, plan in enumerate(plans) if plan.edit is not None}
    best, tokens = _pick(edited(logits, edits), [plan.choice for plan in plans])
    if edits:  # which may have hidden what is wrong with the model's logits
        best = torch.where(logits.amax(dim=-1).isfinite(), best, torch.nan)
    samples = [SampledToken(token) for token in tokens.tolist()]
    nums = {row: plan.num_logprobs for row, plan in enumerate(plans) if plan.num_logprobs is not None}
    if nums:
        rows = list(nums)
        told = with_logprobs(take_rows(logits, rows), take_rows(tokens, rows), list(nums.values()))
        for row, sample in zip(rows, told, strict=True):
            samples[row] = sample
    return _checked(samples, best)


def _pick(logits: Tensor, choices: list[RandomChoice | None]) -> tuple[Tensor, Tensor]:
    """Each row's largest logit and its token, both [rows]: the most probable one where there is no random choice."""
    random = {row: choice for row, choice in enumerate(choices) if choice is not None}
    if len(random) == len(choices):
        return logits.amax(dim=-1), draw(logits, list(random.values()))
    best, tokens = row_max(logits)
    if random:
        tokens[list(random)] = draw(logits[list(random)], list(random.values()))
    return best, tokens


def _checked(samples: Iterable[SampledToken], best: Tensor) -> list[SampledToken | SLMError]:
    """An error in place of each token whose row's largest logit is not finite: NaN, or no token may come."""
    return [
        sample if math.isfinite(value) else InternalError("The model computed no usable probabilities.")
        for sample, value in zip(samples, best.tolist(), strict=True)
    ]
