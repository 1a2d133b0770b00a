"""Tracks which sequence owns which blocks of the cache, and which blocks can be reused."""

from __future__ import annotations

from dataclasses import dataclass

from worker.engine.kv_cache.block_pool import BlockPool
from worker.engine.kv_cache.prefix_tree import PrefixTree
from worker.engine.sequence import Sequence

MIN_COPIED = 8  # tokens; copying a block costs about as much as computing that many
CACHED_SHARE = 0.25  # of all blocks, at least one full sequence: cached for later sequences with the same prefix


@dataclass(frozen=True, slots=True)
class BlockCopy:
    """A copy of the first `num_tokens` tokens of block `source` to block `target`."""

    source: int
    target: int
    num_tokens: int


class KVCacheManager:
    """Allocates the blocks that the sequences' tokens need.

    A sequence with the same prefix as an earlier one shares its full blocks, and copies the beginning of the next
    block. The content of a full block never changes.

    Args:
        num_blocks: blocks of the whole cache.
        block_tokens: tokens of a block.
        context_length: maximum tokens of a sequence; the cache must hold one such sequence.
    """

    def __init__(self, num_blocks: int, block_tokens: int, context_length: int) -> None:
        self.context_length = context_length
        self._block_tokens = block_tokens
        self._max_blocks = self._blocks_for(context_length)
        if num_blocks < self._max_blocks:
            raise ValueError(f"A context of {context_length} tokens takes {self._max_blocks} blocks, got {num_blocks}.")
        self._tree = PrefixTree(block_tokens)
        max_cached = max(self._max_blocks, int(CACHED_SHARE * num_blocks))
        self._pool = BlockPool(num_blocks, max_cached=max_cached, on_evict=self._forget)

    @property
    def usage(self) -> float:
        """Share of the blocks that sequences use, from 0 to 1."""
        return 1 - self._pool.num_available / self._pool.total

    @property
    def num_used(self) -> int:
        """Number of blocks that sequences use."""
        return self._pool.total - self._pool.num_available

    def allocate(self, sequence: Sequence, *, headroom: int = 0) -> list[BlockCopy] | None:
        """Allocate the blocks for all current tokens of a sequence, and set how many of these are already computed.

        Args:
            sequence: has no blocks.
            headroom: number of blocks that must be left for others.

        Returns:
            The copies to make, in order, before anything else is computed; None, without any change, if there are not
            enough blocks.
        """
        token_ids = sequence.all_ids()
        known = [] if sequence.num_unscored_tokens else token_ids[:-1]  # the last token is computed for its logits
        match = self._tree.match(sequence.adapter, known)
        num_new = self._blocks_for(len(token_ids)) - len(match.blocks)
        num_left = self._pool.num_available - sum(self._pool.is_idle(block) for block in match.blocks)
        if num_new + headroom > num_left:
            return None
        for block in match.blocks:
            self._pool.share(block)
        sequence.num_computed_tokens = len(match.blocks) * self._block_tokens
        sequence.prefix = match.node
        sequence.blocks = match.blocks + [self._pool.allocate() for _ in range(num_new)]
        if match.partial is None or match.num_partial < MIN_COPIED:
            return []
        sequence.num_computed_tokens += match.num_partial
        target = sequence.blocks[len(match.blocks)]
        # The same block may just have been allocated as the target: then no copy is needed.
        return [] if target == match.partial else [BlockCopy(match.partial, target, match.num_partial)]

    def extend(self, sequence: Sequence, num_tokens: int) -> bool:
        """Extend the blocks to the sequence's first `num_tokens` tokens; return False, without any change, if full."""
        num_new = self._blocks_for(num_tokens) - len(sequence.blocks)
        if num_new > self._pool.num_available:
            return False
        sequence.blocks += [self._pool.allocate() for _ in range(num_new)]
        return True

    def may_extend(self, sequence: Sequence) -> bool:
        """Return whether the sequence may need another block before it ends."""
        return len(sequence.blocks) < self._max_blocks

    def note_computed(self, sequence: Sequence) -> None:
        """Share the blocks that have become full. If another sequence has shared the same content, use its blocks."""
        size = self._block_tokens
        num_known = min(sequence.num_computed_tokens, sequence.num_tokens)  # a computed token may be pending
        while (begin := self._num_noted(sequence) * size) + size <= num_known:
            self._note(sequence, tuple(sequence.ids(begin, size)))

    def free(self, sequence: Sequence, *, reusable: bool) -> None:
        """Free the sequence's blocks.

        Args:
            sequence: has no blocks afterwards, and none of its tokens counts as computed.
            reusable: whether the blocks' content is valid, so that others may reuse it.
        """
        if reusable:
            self.note_computed(sequence)  # a pending token may have become known
        begin = self._num_noted(sequence) * self._block_tokens
        if reusable and MIN_COPIED <= sequence.num_computed_tokens - begin < self._block_tokens:
            self._note(sequence, tuple(sequence.ids(begin, sequence.num_computed_tokens - begin)))
        for block in reversed(sequence.blocks):  # so that the end of a text is evicted before its beginning
            self._pool.release(block)
        sequence.blocks, sequence.prefix, sequence.num_computed_tokens = [], None, 0

    def shares_with(self, sequence: Sequence, other: Sequence) -> bool:
        """Return whether the sequence could share more blocks if it waited for the prompt of the other sequence."""
        if sequence.num_unscored_tokens or sequence.adapter != other.adapter:
            return False
        if other.num_computed_tokens >= other.num_prompt_tokens:
            return False
        wanted = sequence.all_ids()[:-1]
        known = len(self._tree.match(sequence.adapter, wanted).blocks)
        size = self._block_tokens
        first_new = slice(known * size, (known + 1) * size)
        return len(wanted[first_new]) == size and wanted[: first_new.stop] == other.prompt_ids[: first_new.stop]

    def _note(self, sequence: Sequence, token_ids: tuple[int, ...]) -> None:
        index = self._num_noted(sequence)
        parent = sequence.prefix or self._tree.root(sequence.adapter)
        block = sequence.blocks[index]
        sequence.prefix = node = self._tree.add(parent, token_ids, block)
        if node.block == block:
            self._pool.cache(block)
            return
        self._pool.share(node.block)
        self._pool.release(block)
        sequence.blocks[index] = node.block

    @staticmethod
    def _num_noted(sequence: Sequence) -> int:
        """Return how many blocks of the sequence are in the tree."""
        return 0 if sequence.prefix is None else sequence.prefix.depth

    def _forget(self, block: int) -> None:
        for lost in self._tree.remove(block):
            self._pool.uncache(lost)

    def _blocks_for(self, num_tokens: int) -> int:
        return -(-num_tokens // self._block_tokens)
