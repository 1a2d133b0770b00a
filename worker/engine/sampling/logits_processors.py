"""Applies logits processors with torch."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from worker.engine.device.transfers import to_device
from worker.engine.sampling.processors import LogitsProcessor

_BYTE = 8


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


def _forbid_unmarked(logits: Tensor, masks: dict[int, NDArray[np.int32]]) -> None:
    if not masks:
        return
    # A table from a byte to eight logits is faster than arithmetic on single bits.
    bits = torch.arange(256)[:, None] >> torch.arange(_BYTE) & 1
    table = to_device(torch.where(bits == 1, 0.0, -torch.inf).to(logits.dtype), logits.device)
    marked = to_device(torch.from_numpy(np.stack(list(masks.values())).view(np.uint8)), logits.device)
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
