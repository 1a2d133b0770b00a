"""Which cache slots are taken: integers only, the tensors are in `cache.py`."""

from __future__ import annotations

import heapq


class SlotPool:
    """Hands out the slots 0 .. total - 1, the lowest free one first, so that busy slots stay side by side."""

    def __init__(self, total: int) -> None:
        if total < 1:
            raise ValueError(f"An engine needs at least one slot, got {total}.")
        self.total = total
        self._free = list(range(total))

    @property
    def num_free(self) -> int:
        """Slots that `allocate` can still hand out."""
        return len(self._free)

    def allocate(self) -> int:
        """Take a slot. Raises `IndexError` when none is free."""
        return heapq.heappop(self._free)

    def free(self, slot: int) -> None:
        """Give a slot back. Raises `ValueError` when it was not taken."""
        if slot in self._free or not 0 <= slot < self.total:
            raise ValueError(f"Slot {slot} is not taken.")
        heapq.heappush(self._free, slot)
