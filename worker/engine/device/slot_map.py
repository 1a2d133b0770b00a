"""Which slot of the device's cache each block of the engine is in. No torch, no memory."""

from __future__ import annotations

from collections.abc import Sequence


class SlotMap:
    """Blocks and slots, one to one; at first block i is in slot i.

    A decode step computes the first slots there are, so the blocks of its rows have to be in them.
    """

    def __init__(self, num_slots: int) -> None:
        self._slots = list(range(num_slots))  # by block
        self._blocks = list(range(num_slots))  # by slot

    def slot(self, block: int) -> int:
        """Where the block is."""
        return self._slots[block]

    def block(self, slot: int) -> int:
        """What is in the slot."""
        return self._blocks[slot]

    def exchanges(self, blocks: Sequence[int], num_first: int) -> list[tuple[int, int]]:
        """The pairs of slots to `exchange`, so that the blocks are in the first `num_first` slots.

        No slot is in two pairs, and no block moves that is in one of those slots already.
        """
        staying = {self._slots[block] for block in blocks}
        free = (slot for slot in range(num_first) if slot not in staying)
        return [(self._slots[block], next(free)) for block in blocks if self._slots[block] >= num_first]

    def exchange(self, first: int, second: int) -> None:
        """Note that the contents of two slots have changed places."""
        blocks = self._blocks
        blocks[first], blocks[second] = blocks[second], blocks[first]
        for slot in (first, second):
            self._slots[blocks[slot]] = slot
