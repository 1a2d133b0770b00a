"""Copies a step's inputs from the host to the device in one asynchronous transfer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

KNOWN = -1  # the source of a token that is not among the last samples
UNUSED = -1  # the position of a padding token
NUM_COLUMNS = 5  # of a step's tokens
COPIES = 4  # steps that may be in flight at once; the engine starts two


@dataclass(frozen=True, slots=True)
class StepInputs:
    """The inputs of a step: int32 tensors, at fixed addresses for each number of tokens."""

    token_ids: Tensor  # [tokens]
    sources: Tensor  # [tokens], KNOWN or an index into the last samples
    positions: Tensor  # [tokens], UNUSED or the token's position in its sequence
    table_rows: Tensor  # [tokens], the row of `tables` of its sequence
    slots: Tensor  # [tokens], the slot of its adapter; 0, or negative for a padding token: none
    tables: Tensor  # [rows, blocks of a full sequence]: block tables

    @property
    def num_tokens(self) -> int:
        """Including padding tokens."""
        return len(self.token_ids)


class InputBuffers:
    """The memory for the inputs on the device, and pinned memory for their transfer.

    Args:
        device: where the inputs are read.
        max_tokens: maximum tokens of a step.
        max_rows: maximum sequences of a step.
        table_length: blocks of a full sequence.
        unused_block: the value of unused table entries.
    """

    def __init__(
        self, device: torch.device, *, max_tokens: int, max_rows: int, table_length: int, unused_block: int
    ) -> None:
        self._is_cuda = device.type == "cuda"
        size = NUM_COLUMNS * max_tokens + max_rows * table_length
        self._device_memory = torch.full((size,), UNUSED, dtype=torch.int32, device=device)
        self._unused_block = unused_block
        self._tables = np.full((max_rows, table_length), unused_block, dtype=np.int32)
        self._blocks: list[tuple[int, ...]] = [()] * max_rows  # the blocks in each row of the tables
        self._memory = [
            torch.empty(size, dtype=torch.int32, pin_memory=self._is_cuda)
            for _ in range(COPIES if self._is_cuda else 1)
        ]
        self._copied: list[torch.cuda.Event | None] = [None] * len(self._memory)
        self._next_copy = 0
        self._views: dict[tuple[int, int], StepInputs] = {}

    def views(self, num_tokens: int, num_rows: int) -> StepInputs:
        """Return views of the memory that a step of that size reads."""
        views = self._views.get((num_tokens, num_rows))
        if views is None:
            views = self._views[num_tokens, num_rows] = self._make_views(num_tokens, num_rows)
        return views

    def _make_views(self, num_tokens: int, num_rows: int) -> StepInputs:
        begin = NUM_COLUMNS * num_tokens
        parts = self._device_memory[:begin].view(NUM_COLUMNS, num_tokens)
        length = self._tables.shape[1]
        tables = self._device_memory[begin : begin + num_rows * length].view(num_rows, length)
        return StepInputs(parts[0], parts[1], parts[2], parts[3], parts[4], tables)

    def clear(self) -> None:
        """Mark all tokens as padding, for steps of any size."""
        self._device_memory.fill_(UNUSED)

    def set(self, columns: Sequence[Sequence[int]], blocks: Sequence[tuple[int, ...]]) -> None:
        """Copy a step's inputs to the device.

        Args:
            columns: token ids, sources, positions, table rows and slots, all of the same length.
            blocks: the blocks of each row of the tables.

        Raises:
            ValueError: a block does not exist.
        """
        self._update_tables(blocks)
        num_tokens, num_rows = len(columns[0]), len(blocks)
        begin = NUM_COLUMNS * num_tokens
        size = begin + num_rows * self._tables.shape[1]
        memory, event = self._memory[self._next_copy], self._copied[self._next_copy]
        if event is not None:
            event.synchronize()  # long done, unless more steps are started than there are copies
        host = memory.numpy()
        host[:begin].reshape(NUM_COLUMNS, num_tokens)[:] = columns
        host[begin:size] = self._tables[:num_rows].reshape(-1)
        self._device_memory[:size].copy_(memory[:size], non_blocking=True)
        if self._is_cuda:
            event = event or torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record()
            self._copied[self._next_copy] = event
        self._next_copy = (self._next_copy + 1) % len(self._memory)

    def _update_tables(self, blocks: Sequence[tuple[int, ...]]) -> None:
        """Update the rows that differ from the last step, which are few."""
        for row, own in enumerate(blocks):
            if own != self._blocks[row]:
                if own and not 0 <= min(own) <= max(own) < self._unused_block:
                    raise ValueError(f"The cache has no block {max(own)}.")
                self._tables[row, : len(own)] = own
                self._tables[row, len(own) :] = self._unused_block
                self._blocks[row] = own
