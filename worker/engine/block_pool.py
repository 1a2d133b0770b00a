"""Which blocks of the cache are in use: integers only, the memory is the runner's."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable


class BlockPool:
    """Hands out the blocks 0 .. total - 1 and counts who holds each.

    A block that nobody holds any more is free at once, unless it is kept: then it waits, least recently held first, to
    be held again or to be handed out as a new one. The lowest free block goes first, so that little memory is touched.

    Args:
        total: blocks there are.
        max_kept: most blocks that wait; beyond it the one that waited longest is free.
        on_evict: called with a kept block whose content is given up.
    """

    def __init__(self, total: int, *, max_kept: int, on_evict: Callable[[int], None]) -> None:
        if total < 1:
            raise ValueError(f"A cache needs at least one block, got {total}.")
        self.total = total
        self._max_kept = max_kept
        self._on_evict = on_evict
        self._holders = [0] * total
        self._free = list(range(total))
        self._kept: set[int] = set()
        self._waiting: OrderedDict[int, None] = OrderedDict()  # kept, and held by nobody

    @property
    def num_available(self) -> int:
        """Blocks that `allocate` can still hand out."""
        return len(self._free) + len(self._waiting)

    def is_waiting(self, block: int) -> bool:
        """Whether the block is one of the available ones and has its content still."""
        return block in self._waiting

    def allocate(self) -> int:
        """Hold a block nobody holds. Raises `IndexError` when there is none."""
        if not self._free and self._waiting:
            self._evict()
        block = heapq.heappop(self._free)
        self._holders[block] = 1
        return block

    def hold(self, block: int) -> None:
        """Hold a kept block too."""
        self._waiting.pop(block, None)
        self._holders[block] += 1

    def keep(self, block: int) -> None:
        """Let the block, which is held, wait with its content when nobody holds it any more."""
        self._kept.add(block)

    def drop(self, block: int) -> None:
        """Do not keep the block; it is free as soon as nobody holds it."""
        self._kept.discard(block)
        if block in self._waiting:
            del self._waiting[block]
            heapq.heappush(self._free, block)

    def release(self, block: int) -> None:
        """Hold the block no longer. Raises `ValueError` when nobody did."""
        if not self._holders[block]:
            raise ValueError(f"Block {block} is not held.")
        self._holders[block] -= 1
        if self._holders[block]:
            return
        if block not in self._kept:
            heapq.heappush(self._free, block)
            return
        self._waiting[block] = None
        if len(self._waiting) > self._max_kept:
            self._evict()

    def _evict(self) -> None:
        block = next(iter(self._waiting))
        self.drop(block)
        self._on_evict(block)
