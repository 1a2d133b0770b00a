"""Stores the keys and values of the running sequences, one block each, for the modelling code of transformers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache

MIN_POSITIONS = 256  # initial size of a block in tokens; it grows by doubling


class SequenceCache(Cache):
    """A cache of blocks. `set_rows` sets the next forward's rows and positions; the model's layers then call `update`.

    Every layer has two tensors [blocks, heads, positions, head size], which grow by doubling to the blocks and lengths
    in use, at most to `num_blocks` x `context_length`. Unwritten parts of a block are zero: attention multiplies masked
    values by a weight of zero, and zero times a leftover NaN would still be NaN.
    """

    def __init__(self, num_blocks: int, context_length: int) -> None:
        super().__init__(layers=[])
        self.num_positions = 0  # how many positions each row reads in this forward: the length of the longest row
        self._limits = (num_blocks, context_length)
        self._capacity = (1, min(MIN_POSITIONS, context_length))  # blocks, positions
        self._written = [0] * num_blocks  # upper bound of the tokens written to each block since it was cleared
        self._pools: list[tuple[Tensor, Tensor]] = []  # keys and values per layer, created by the first forward
        self._rows: Tensor | slice = slice(0)
        self._write_index = torch.empty(0), torch.empty(0)

    def clear(self, block: int) -> None:
        """Clear a block for a new sequence."""
        num_written, self._written[block] = self._written[block], 0
        for pool in (pool for pools in self._pools for pool in pools):
            pool[block : block + 1, :, :num_written] = 0  # the slice is empty if the pool has not grown to the block

    def copy(self, source: int, target: int, num_tokens: int) -> None:
        """Copy the first tokens of a block to another block."""
        self._grow(max(source, target) + 1, num_tokens)
        for layer, (keys, values) in enumerate(self._pools):
            self._pools[layer] = self._at_capacity(keys), self._at_capacity(values)
        for pool in (pool for pools in self._pools for pool in pools):
            pool[target, :, :num_tokens] = pool[source, :, :num_tokens]
        self._written[target] = max(self._written[target], num_tokens)

    def set_rows(self, blocks: list[int], positions: Tensor) -> None:
        """Prepare for a forward of one row per block, with tokens at `positions` [rows, tokens]."""
        self.num_positions = int(positions.max()) + 1
        self._grow(max(blocks) + 1, self.num_positions)
        index = torch.tensor(blocks, device=positions.device)
        self._rows = _as_slice(blocks) or index
        self._write_index = index[:, None], positions
        for block, length in zip(blocks, positions[:, -1].tolist(), strict=True):
            self._written[block] = max(self._written[block], length + 1)

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """Store a layer's new states, [rows, heads, tokens, head size]; return all states of the rows."""
        while len(self._pools) <= layer_idx:
            self._pools.append((self._pool(key_states[:0]), self._pool(value_states[:0])))
        keys, values = self._pools[layer_idx]
        keys, values = self._pools[layer_idx] = self._at_capacity(keys), self._at_capacity(values)
        return self._write(keys, key_states), self._write(values, value_states)

    def get_seq_length(self, layer_idx: int = 0) -> int:  # noqa: ARG002 - the name is transformers'
        """Return 0: rows have different lengths, so positions and masks are passed explicitly."""
        return 0

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:  # noqa: ARG002
        """Return the number and the first position of the keys that `update` returns."""
        return self.num_positions, 0

    def _write(self, pool: Tensor, states: Tensor) -> Tensor:
        blocks, positions = self._write_index
        pool[blocks, :, positions] = states.transpose(1, 2)
        return pool[self._rows, :, : self.num_positions]

    def _grow(self, num_blocks: int, num_positions: int) -> None:
        needed = zip(self._capacity, (num_blocks, num_positions), self._limits, strict=True)
        blocks, positions = (_doubled(*sizes) for sizes in needed)
        self._capacity = blocks, positions

    def _at_capacity(self, pool: Tensor) -> Tensor:
        return pool if (pool.shape[0], pool.shape[2]) == self._capacity else self._pool(pool)

    def _pool(self, old: Tensor) -> Tensor:
        """Return a tensor of the current capacity with the content of `old`."""
        blocks, positions = self._capacity
        pool = old.new_zeros(blocks, old.shape[1], positions, old.shape[3])
        pool[: old.shape[0], :, : old.shape[2]] = old
        return pool


def _doubled(size: int, needed: int, limit: int) -> int:
    while size < needed:
        size *= 2
    return min(size, limit)


def _as_slice(blocks: list[int]) -> slice | None:
    """Return the blocks as a slice if they are contiguous, because reading a slice copies nothing; else None."""
    first = blocks[0]
    return slice(first, first + len(blocks)) if blocks == list(range(first, first + len(blocks))) else None
