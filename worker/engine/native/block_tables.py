"""Which cache blocks hold each slot's tokens. Ids and integers only: no memory, no torch."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable

from worker.engine.model_runner import Row
from worker.engine.native.errors import CacheFull
from worker.engine.native.library import BLOCK_TOKENS


class BlockTables:
    """Gives slots the blocks that their tokens need.

    A block is named by its index in the cache, and a slot's table lists its blocks in the order of their tokens, so
    that several slots could list the same block.

    Args:
        num_slots: slots, named 0 .. num_slots - 1.
        num_blocks: blocks of the whole cache.
        context_length: most tokens of one slot.
    """

    def __init__(self, num_slots: int, num_blocks: int, context_length: int) -> None:
        self.context_length = context_length
        self._free = list(
            range(num_blocks - 1, -1, -1)
        )  # the last freed is the next taken: its memory is in use anyway
        self._tables = [(ctypes.c_int32 * blocks_for(context_length))() for _ in range(num_slots)]
        self._num_tokens = [0] * num_slots

    @property
    def num_free_blocks(self) -> int:
        """Blocks that no slot holds."""
        return len(self._free)

    def address(self, slot: int) -> int:
        """Where the slot's table is: int32 [blocks]."""
        return ctypes.addressof(self._tables[slot])

    def blocks_needed(self, rows: Iterable[Row]) -> int:
        """How many more blocks the rows take than their slots hold; negative when opened slots give some back."""
        return sum(blocks_for(row.start + len(row.token_ids)) - self._num_held(row.slot) for row in rows)

    def extend(self, rows: list[Row]) -> None:
        """Make room for the rows' tokens. Rows that start at 0 open their slot anew.

        Raises:
            ValueError: a row does not continue its slot, has no token, or does not fit the context.
            CacheFull: there are not enough blocks. Neither error changes anything.
        """
        for row in rows:
            self._check(row)
        if (needed := self.blocks_needed(rows)) > self.num_free_blocks:
            raise CacheFull(f"The step needs {needed} cache blocks, but {self.num_free_blocks} are free.")
        for row in rows:
            if row.start == 0:
                self.free(row.slot)
        for row in rows:
            self._grow(row.slot, row.start + len(row.token_ids))

    def free(self, slot: int) -> None:
        """Give back the blocks of a slot whose sequence has ended."""
        self._free.extend(reversed(self._tables[slot][: self._num_held(slot)]))
        self._num_tokens[slot] = 0

    def _check(self, row: Row) -> None:
        if not row.token_ids:
            raise ValueError(f"The row of slot {row.slot} has no token.")
        if row.start not in {0, self._num_tokens[row.slot]}:
            raise ValueError(f"Slot {row.slot} has {self._num_tokens[row.slot]} tokens; no row starts at {row.start}.")
        if row.start + len(row.token_ids) > self.context_length:
            raise ValueError(f"Slot {row.slot} cannot hold more than {self.context_length} tokens.")

    def _num_held(self, slot: int) -> int:
        return blocks_for(self._num_tokens[slot])

    def _grow(self, slot: int, num_tokens: int) -> None:
        for index in range(self._num_held(slot), blocks_for(num_tokens)):
            self._tables[slot][index] = self._free.pop()
        self._num_tokens[slot] = num_tokens


def blocks_for(num_tokens: int) -> int:
    """Blocks that hold so many tokens."""
    return -(-num_tokens // BLOCK_TOKENS)
