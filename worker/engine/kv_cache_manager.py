"""Who owns which blocks of the cache, and what of them can be used again. No torch, no memory."""

from __future__ import annotations

from dataclasses import dataclass

from worker.engine.block_pool import BlockPool
from worker.engine.prefix_tree import PrefixTree
from worker.engine.sequence import Sequence

MIN_COPIED = 8  # tokens; copying a block costs about as much as computing these
KEPT_SHARE = 0.25  # of all blocks, and one full sequence at least, may wait for somebody whose text begins alike


@dataclass(frozen=True, slots=True)
class BlockCopy:
    """The first `num_tokens` tokens of block `source` are to be copied to block `target`."""

    source: int
    target: int
    num_tokens: int


class KVCacheManager:
    """Gives sequences the blocks that their tokens need.

    A sequence that begins as an earlier one did shares that one's full blocks and copies the beginning of the next
    one. What a full block holds never changes.

    Args:
        num_blocks: blocks of the whole cache.
        block_tokens: tokens of a block.
        context_length: most tokens of a sequence; all of them must fit.
    """

    def __init__(self, num_blocks: int, block_tokens: int, context_length: int) -> None:
        self.context_length = context_length
        self._block_tokens = block_tokens
        self._max_blocks = self._blocks_for(context_length)
        if num_blocks < self._max_blocks:
            raise ValueError(f"A context of {context_length} tokens takes {self._max_blocks} blocks, got {num_blocks}.")
        self._tree = PrefixTree(block_tokens)
        max_kept = max(self._max_blocks, int(KEPT_SHARE * num_blocks))
        self._pool = BlockPool(num_blocks, max_kept=max_kept, on_evict=self._forget)

    @property
    def usage(self) -> float:
        """Share of the blocks that sequences hold, 0 to 1."""
        return 1 - self._pool.num_available / self._pool.total

    @property
    def num_held(self) -> int:
        """Blocks that sequences hold."""
        return self._pool.total - self._pool.num_available

    def open(self, sequence: Sequence, *, headroom: int = 0) -> list[BlockCopy] | None:
        """Give a sequence the blocks for all its present tokens, and note what of them is computed already.

        Args:
            sequence: holds no block.
            headroom: blocks that must be left for others.

        Returns:
            The copies to be made before anything else is computed, in that order; None, and no change, when there are
            not enough blocks.
        """
        token_ids = sequence.all_ids()
        match = self._tree.match(sequence.adapter, token_ids[:-1])  # the last one is computed for its logits
        num_new = self._blocks_for(len(token_ids)) - len(match.blocks)
        num_left = self._pool.num_available - sum(self._pool.is_waiting(block) for block in match.blocks)
        if num_new + headroom > num_left:
            return None
        for block in match.blocks:
            self._pool.hold(block)
        sequence.num_computed_tokens = len(match.blocks) * self._block_tokens
        sequence.prefix = match.node
        sequence.blocks = match.blocks + [self._pool.allocate() for _ in range(num_new)]
        if match.partial is None or match.num_partial < MIN_COPIED:
            return []
        sequence.num_computed_tokens += match.num_partial
        target = sequence.blocks[len(match.blocks)]
        # The block may just have been handed out again: then the beginning is where it should be.
        return [] if target == match.partial else [BlockCopy(match.partial, target, match.num_partial)]

    def grow(self, sequence: Sequence, num_tokens: int) -> bool:
        """Make room for the sequence's first `num_tokens` tokens; false, and no change, when there is not enough."""
        num_new = self._blocks_for(num_tokens) - len(sequence.blocks)
        if num_new > self._pool.num_available:
            return False
        sequence.blocks += [self._pool.allocate() for _ in range(num_new)]
        return True

    def can_grow(self, sequence: Sequence) -> bool:
        """Whether the sequence may need another block before it ends."""
        return len(sequence.blocks) < self._max_blocks

    def note_computed(self, sequence: Sequence) -> None:
        """Let others share the blocks that have become full. Where another was faster, its blocks take their place."""
        size = self._block_tokens
        num_known = min(sequence.num_computed_tokens, sequence.num_tokens)  # a computed one may be pending
        while (begin := self._num_noted(sequence) * size) + size <= num_known:
            self._note(sequence, tuple(sequence.ids(begin, size)))

    def close(self, sequence: Sequence, *, keep: bool) -> None:
        """Take the sequence's blocks back.

        Args:
            sequence: holds none afterwards, and none of its tokens counts as computed.
            keep: whether what they hold is sound and others may use it.
        """
        if keep:
            self.note_computed(sequence)  # a pending token may have become known
        begin = self._num_noted(sequence) * self._block_tokens
        if keep and MIN_COPIED <= sequence.num_computed_tokens - begin < self._block_tokens:
            self._note(sequence, tuple(sequence.ids(begin, sequence.num_computed_tokens - begin)))
        for block in reversed(sequence.blocks):  # a text's end is given up before its beginning
            self._pool.release(block)
        sequence.blocks, sequence.prefix, sequence.num_computed_tokens = [], None, 0

    def shares_with(self, sequence: Sequence, other: Sequence) -> bool:
        """Whether the sequence could share more blocks if it waited for the prompt of the other one."""
        if sequence.adapter != other.adapter or other.num_computed_tokens >= other.num_prompt_tokens:
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
            self._pool.keep(block)
            return
        self._pool.hold(node.block)
        self._pool.release(block)
        sequence.blocks[index] = node.block

    @staticmethod
    def _num_noted(sequence: Sequence) -> int:
        """Blocks of the sequence that the tree knows."""
        return 0 if sequence.prefix is None else sequence.prefix.depth

    def _forget(self, block: int) -> None:
        for lost in self._tree.remove(block):
            self._pool.drop(lost)

    def _blocks_for(self, num_tokens: int) -> int:
        return -(-num_tokens // self._block_tokens)
