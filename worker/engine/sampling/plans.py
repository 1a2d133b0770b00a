"""Reads from a sequence's settings how to turn a row of logits into its next token."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from common.errors import InternalError, SLMError
from worker.engine.sampling.processors import LogitsProcessor, needs_processor, processor_for
from worker.engine.sampling.scored_tokens import Scoring
from worker.engine.sampling.settings import RandomSampling, random_at
from worker.engine.sequence import Sequence

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Plan:
    """How to turn one row of the logits into a token."""

    processor: LogitsProcessor | None
    sampling: RandomSampling | None  # None: the most probable token
    scoring: Scoring | None  # None: no log probabilities


MOST_PROBABLE = Plan(processor=None, sampling=None, scoring=None)


def takes_most_probable(sequence: Sequence, num_drafts: int) -> bool:
    """Return whether the token after the first `num_drafts` draft tokens is the one with the largest logit."""
    params = sequence.params
    return params.is_greedy and params.logprobs is None and not needs_processor(sequence, num_drafts)


def plans_for(rows: list[tuple[Sequence, int]], vocab_size: int) -> tuple[list[Plan], dict[int, SLMError]]:
    """Return each row's plan, and the errors that end single sequences, by row.

    Args:
        rows: the sequences, each with the number of its draft tokens that come before the row's token.
        vocab_size: number of tokens of the model.
    """
    planned = [_plan(sequence, num_drafts, vocab_size) for sequence, num_drafts in rows]
    errors = {row: plan for row, plan in enumerate(planned) if isinstance(plan, SLMError)}
    return [MOST_PROBABLE if isinstance(plan, SLMError) else plan for plan in planned], errors


def _plan(sequence: Sequence, num_drafts: int, vocab_size: int) -> Plan | SLMError:
    """Read one sequence's settings. An error in them ends only this sequence."""
    try:
        return Plan(
            processor=processor_for(sequence, vocab_size, num_drafts)
            if needs_processor(sequence, num_drafts)
            else None,
            sampling=None if sequence.params.is_greedy else _random_sampling(sequence, num_drafts),
            scoring=_scoring(sequence),
        )
    except SLMError as error:
        return error
    except Exception:
        logger.exception("Sequence %s cannot be sampled.", sequence.sequence_id)
        return InternalError("The sampling parameters cannot be used.")


def _scoring(sequence: Sequence) -> Scoring | None:
    params = sequence.params
    return None if params.logprobs is None else Scoring(params.logprobs, params.logprob_token_ids)


def _random_sampling(sequence: Sequence, num_drafts: int) -> RandomSampling:
    params = sequence.params
    return RandomSampling(
        temperature=float(params.temperature),
        top_k=int(params.top_k),
        top_p=float(params.top_p),
        min_p=float(params.min_p),
        point=random_at(params.seed, sequence.next_index + num_drafts),
    )
