"""Tracks which blocks of the cache are in use, by number; the runner owns the memory."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable


class BlockPool:
    """Allocates the blocks 0 .. total - 1 and counts the references to each.

    A block without references becomes free, unless its content is cached: then it stays in an LRU list, from which it
    can be used again, or evicted and allocated as a new block. The lowest free block is allocated first, to touch
    little memory.

    Args:
        total: number of blocks.
        max_cached: maximum number of cached blocks without references; beyond it the least recently used becomes free.
        on_evict: called with a cached block when it is evicted.
    """

    def __init__(self, total: int, *, max_cached: int, on_evict: Callable[[int], None]) -> None:
        if total < 1:
            raise ValueError(f"A cache needs at least one block, got {total}.")
        self.total = total
        self._max_cached = max_cached
        self._on_evict = on_evict
        self._ref_counts = [0] * total
        self._free = list(range(total))
        self._cached: set[int] = set()
        self._idle: OrderedDict[int, None] = OrderedDict()  # cached, without references

    @property
    def num_available(self) -> int:
        """Number of blocks that can still be allocated."""
        return len(self._free) + len(self._idle)

    def is_idle(self, block: int) -> bool:
        """Return whether the block is available and still has its content."""
        return block in self._idle

    def allocate(self) -> int:
        """Allocate a block, with one reference. Raises `IndexError` if there is none."""
        if not self._free and self._idle:
            self._evict()
        block = heapq.heappop(self._free)
        self._ref_counts[block] = 1
        return block

    def share(self, block: int) -> None:
        """Add a reference to a cached block."""
        self._idle.pop(block, None)
        self._ref_counts[block] += 1

    def cache(self, block: int) -> None:
        """Keep the content of a block after its last reference is released."""
        self._cached.add(block)

    def uncache(self, block: int) -> None:
        """Stop keeping the content; the block becomes free as soon as it has no references."""
        self._cached.discard(block)
        if block in self._idle:
            del self._idle[block]
            heapq.heappush(self._free, block)

    def release(self, block: int) -> None:
        """Remove a reference to the block. Raises `ValueError` if it has none."""
        if not self._ref_counts[block]:
            raise ValueError(f"Block {block} is not in use.")
        self._ref_counts[block] -= 1
        if self._ref_counts[block]:
            return
        if block not in self._cached:
            heapq.heappush(self._free, block)
            return
        self._idle[block] = None
        if len(self._idle) > self._max_cached:
            self._evict()

    def _evict(self) -> None:
        block = next(iter(self._idle))
        self.uncache(block)
        self._on_evict(block)
