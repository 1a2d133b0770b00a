"""Tracks which blocks of the cache are in use, by number; the runner owns the memory."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable


class BlockPool:
    """Allocates the blocks 0 .. total - 1 and counts the holders of each.

    A block without holders becomes free, unless it is kept: then it stays in an LRU cache, from which it can be held
    again, or evicted and allocated as a new block. The lowest free block is allocated first, to touch little memory.

    Args:
        total: number of blocks.
        max_kept: maximum number of kept blocks without holders; beyond it the least recently held one becomes free.
        on_evict: called with a kept block when its content is given up.
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
        self._waiting: OrderedDict[int, None] = OrderedDict()  # kept, without holders

    @property
    def num_available(self) -> int:
        """Number of blocks that can still be allocated."""
        return len(self._free) + len(self._waiting)

    def is_waiting(self, block: int) -> bool:
        """Return whether the block is available and still has its content."""
        return block in self._waiting

    def allocate(self) -> int:
        """Allocate a block without holders. Raises `IndexError` if there is none."""
        if not self._free and self._waiting:
            self._evict()
        block = heapq.heappop(self._free)
        self._holders[block] = 1
        return block

    def hold(self, block: int) -> None:
        """Add a holder to a kept block."""
        self._waiting.pop(block, None)
        self._holders[block] += 1

    def keep(self, block: int) -> None:
        """Keep the content of a held block after its last holder releases it."""
        self._kept.add(block)

    def drop(self, block: int) -> None:
        """Stop keeping the block; it becomes free as soon as it has no holders."""
        self._kept.discard(block)
        if block in self._waiting:
            del self._waiting[block]
            heapq.heappush(self._free, block)

    def release(self, block: int) -> None:
        """Remove a holder of the block. Raises `ValueError` if it has none."""
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
