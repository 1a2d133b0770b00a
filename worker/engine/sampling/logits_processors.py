"""Logits processors: change a sequence's logits before a token is chosen.

In this order: the repetition penalty (as in transformers), the frequency and presence penalties (as in OpenAI's API),
the bias, and the forbidden tokens: end tokens before `min_new_tokens`, and tokens that a constraint does not allow.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worker.engine.device.transfers import to_device
from worker.engine.grammar.constraint import TokenConstraint
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
    mask: Tensor | None  # the allowed tokens, as marked by `TokenConstraint`


def needs_processor(sequence: Sequence, num_drafts: int = 0) -> bool:
    """Return whether any logits processor applies to the token after the sequence's first `num_drafts` draft tokens."""
    params = sequence.params
    return (
        params.is_penalised
        or bool(params.logit_bias)
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
    mask = None
    if sequence.constraint is not None:
        mask = _mask(sequence.constraint, vocab_size, num_drafts)
        forbidden_ids = forbidden_ids if _is_free(mask, forbidden_ids) else []
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


def _mask(constraint: TokenConstraint, vocab_size: int, num_drafts: int) -> Tensor:
    """Return the tokens that the constraint allows after its first `num_drafts` draft tokens."""
    mask = torch.zeros(-(-vocab_size // _WORD), dtype=torch.int32)
    constraint.allowed(mask, num_drafts)
    return mask


def _is_free(mask: Tensor, forbidden_ids: list[int]) -> bool:
    """Return whether the mask allows other tokens, too. If not, the constraint takes precedence."""
    bits = mask.numpy().view(np.uint8).copy()
    for token_id in forbidden_ids:
        bits[token_id // _BYTE] &= ~np.uint8(1 << token_id % _BYTE)
    return bool(bits.any())


def apply_processors(logits: Tensor, processors: dict[int, LogitsProcessor]) -> Tensor:
    """Return the logits, [rows, vocab] in 32 bits, after the processors of some rows; a copy if there are any."""
    if not processors:
        return logits
    logits = logits.clone()
    _penalise(logits, processors)
    rows, ids = _positions(logits, processors, (processor.bias_ids for processor in processors.values()))
    logits[rows, ids] += _flat(logits, (processor.biases for processor in processors.values()))
    rows, ids = _positions(logits, processors, (processor.forbidden_ids for processor in processors.values()))
    logits[rows, ids] = logits.new_full((), -torch.inf)  # a Python number would be copied to the device
    _forbid_unmarked(
        logits, {row: processor.mask for row, processor in processors.items() if processor.mask is not None}
    )
    return logits


def _penalise(logits: Tensor, processors: dict[int, LogitsProcessor]) -> None:
    """Divide positive logits of seen tokens by the repetition penalty, multiply negative ones; then subtract."""
    rows, ids = _positions(logits, processors, (processor.seen_ids for processor in processors.values()))
    penalties = _flat(
        logits, (np.full(len(processor.seen_ids), processor.repetition_penalty) for processor in processors.values())
    )
    seen = logits[rows, ids]
    seen = torch.where(seen > 0, seen / penalties, seen * penalties)
    logits[rows, ids] = seen - _flat(logits, (processor.reductions for processor in processors.values()))


def _forbid_unmarked(logits: Tensor, masks: dict[int, Tensor]) -> None:
    if not masks:
        return
    # A table from a byte to eight logits is faster than arithmetic on single bits.
    bits = torch.arange(256)[:, None] >> torch.arange(_BYTE) & 1
    table = to_device(torch.where(bits == 1, 0.0, -torch.inf).to(logits.dtype), logits.device)
    marked = to_device(torch.stack(list(masks.values())).view(torch.uint8), logits.device)
    rows = to_device(torch.tensor(list(masks)), logits.device)
    logits[rows] += table[marked.int()].flatten(1)[:, : logits.shape[-1]]


def _positions(logits: Tensor, processors: dict[int, LogitsProcessor], ids: Iterable[object]) -> tuple[Tensor, Tensor]:
    """Return rows and columns of lists of token ids, one list per processor."""
    columns = [np.asarray(row_ids, dtype=np.int64) for row_ids in ids]
    rows = np.repeat(np.fromiter(processors, np.int64, len(processors)), [len(column) for column in columns])
    ids_of_all = torch.from_numpy(np.concatenate(columns))
    return to_device(torch.from_numpy(rows), logits.device), to_device(ids_of_all, logits.device)


def _flat(logits: Tensor, values: Iterable[object]) -> Tensor:
    """Concatenate the values of all lists, in the format of the logits."""
    flat = np.concatenate([np.asarray(row_values, dtype=np.float32) for row_values in values])
    return to_device(torch.from_numpy(flat), logits.device)
