"""Logits processors: change a sequence's logits before a token is chosen.

In this order: the repetition penalty (as in transformers), the frequency and presence penalties (as in OpenAI's API),
the bias, and the forbidden tokens: end tokens before `min_new_tokens`, and tokens that a constraint does not allow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from worker.engine.output.stopping import end_token_ids
from worker.engine.sequence import Sequence

_WORD = 32  # tokens per word of a mask
_BYTE = 8


@dataclass(frozen=True, slots=True)
class LogitsProcessor:
    """The changes to one row."""

    seen_ids: NDArray[np.int64]  # without duplicates
    repetition_penalty: float
    reductions: NDArray[np.float64]  # subtracted from the logits of the seen tokens
    bias_ids: list[int]
    biases: list[float]
    forbidden_ids: list[int]
    mask: NDArray[np.int32] | None  # the allowed tokens, as marked by `TokenConstraint`


def needs_processor(sequence: Sequence, num_drafts: int = 0) -> bool:
    """Return whether any logits processor applies to the token after the sequence's first `num_drafts` draft tokens."""
    params = sequence.params
    return (
        params.is_penalised
        or bool(params.logit_bias)
        or bool(params.allowed_token_ids)
        or sequence.next_index + num_drafts < params.min_new_tokens
        or sequence.constraint is not None
    )


def processor_for(sequence: Sequence, vocab_size: int, num_drafts: int = 0) -> LogitsProcessor:
    """Return the changes for the token after the sequence's first `num_drafts` draft tokens."""
    params = sequence.params
    seen_ids, reductions = _penalties(sequence) if params.is_penalised else (np.empty(0, np.int64), np.empty(0))
    forbidden_ids: list[int] = []
    if sequence.next_index + num_drafts < params.min_new_tokens:
        # A tokenizer may have end tokens that its model does not have.
        forbidden_ids = sorted(end_id for end_id in end_token_ids(sequence) if end_id < vocab_size)
    mask = _mask(sequence, vocab_size, num_drafts)
    if mask is not None and not _is_free(mask, forbidden_ids):
        forbidden_ids = []
    return LogitsProcessor(
        seen_ids=seen_ids,
        repetition_penalty=float(params.repetition_penalty),
        reductions=reductions,
        bias_ids=list(params.logit_bias.keys()),
        biases=list(params.logit_bias.values()),
        forbidden_ids=forbidden_ids,
        mask=mask,
    )


def _penalties(sequence: Sequence) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the seen tokens, and the sum of the frequency and presence penalties of each."""
    params, history = sequence.params, sequence.history
    history.read(sequence.prompt_ids, sequence.output_ids)
    counts = np.array(history.counts)
    return np.array(history.ids), params.frequency_penalty * counts + params.presence_penalty * (counts > 0)


def _mask(sequence: Sequence, vocab_size: int, num_drafts: int) -> NDArray[np.int32] | None:
    """Return the tokens that may follow after the first `num_drafts` draft tokens; None if all may."""
    if sequence.constraint is None and not sequence.params.allowed_token_ids:
        return None
    mask = np.zeros(-(-vocab_size // _WORD), np.int32)
    if sequence.constraint is not None:
        sequence.constraint.allowed(mask, num_drafts)
    else:
        _mark(mask, sequence.params.allowed_token_ids)
    return mask


def _mark(mask: NDArray[np.int32], token_ids: tuple[int, ...]) -> None:
    is_allowed = np.zeros(mask.nbytes * _BYTE, np.bool_)
    is_allowed[np.array(token_ids)] = True
    mask[:] = np.packbits(is_allowed, bitorder="little").view(np.int32)


def _is_free(mask: NDArray[np.int32], forbidden_ids: list[int]) -> bool:
    """Return whether the mask allows other tokens, too. If not, it takes precedence."""
    bits = mask.view(np.uint8).copy()
    for token_id in forbidden_ids:
        bits[token_id // _BYTE] &= ~np.uint8(1 << token_id % _BYTE)
    return bool(bits.any())
