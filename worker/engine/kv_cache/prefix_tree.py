"""Finds the blocks with the keys and values of a text's prefix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice

MAX_COMPARED = 64  # how many of the newest blocks are compared to find a common beginning


@dataclass(eq=False, slots=True)
class PrefixNode:
    """A block with the tokens that follow those of its parent. Only the last block of a text can be partly filled."""

    parent: PrefixNode | None
    block: int
    token_ids: tuple[int, ...]
    depth: int  # number of blocks down to this one
    children: dict[tuple[int, ...], PrefixNode] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PrefixMatch:
    """The known prefix of a text: whole blocks down to `node`, then a part of the block `partial`."""

    node: PrefixNode
    blocks: list[int]
    partial: int | None = None
    num_partial: int = 0  # tokens of `partial` that match


class PrefixTree:
    """A tree of blocks per adapter, because one adapter's states cannot be used with another."""

    def __init__(self, block_tokens: int) -> None:
        self._block_tokens = block_tokens
        self._roots: dict[str, PrefixNode] = {}
        self._nodes: dict[int, PrefixNode] = {}  # by block

    def root(self, adapter: str) -> PrefixNode:
        """Return the root of the adapter's tree."""
        return self._roots.setdefault(adapter, PrefixNode(None, -1, (), 0))

    def match(self, adapter: str, token_ids: Sequence[int]) -> PrefixMatch:
        """Find the longest known prefix of a text."""
        node, blocks, end = self.root(adapter), [], 0
        while end + self._block_tokens <= len(token_ids):
            child = node.children.get(tuple(token_ids[end : end + self._block_tokens]))
            if child is None:
                break
            node, end = child, end + self._block_tokens
            blocks.append(child.block)
        rest = token_ids[end : end + self._block_tokens]
        newest = islice(reversed(node.children.values()), MAX_COMPARED)
        length, block = max(((common_length(rest, child.token_ids), child.block) for child in newest), default=(0, -1))
        return PrefixMatch(node, blocks, block, length) if length else PrefixMatch(node, blocks)

    def add(self, parent: PrefixNode, token_ids: tuple[int, ...], block: int) -> PrefixNode:
        """Add a block with these tokens; return its node, or the existing node with the same tokens."""
        if (known := parent.children.get(token_ids)) is not None:
            return known
        node = PrefixNode(parent, block, token_ids, parent.depth + 1)
        parent.children[token_ids] = self._nodes[block] = node
        return node

    def remove(self, block: int) -> list[int]:
        """Remove the block. Returns its descendants, which are removed as well."""
        node = self._nodes.pop(block)
        assert node.parent is not None  # noqa: S101 - only roots have no parent, and they have no block
        del node.parent.children[node.token_ids]
        return [lost for child in list(node.children.values()) for lost in (child.block, *self.remove(child.block))]


def common_length(first: Sequence[int], second: Sequence[int]) -> int:
    """Return the length of the common prefix of two texts in tokens."""
    shorter = min(len(first), len(second))
    return next((index for index in range(shorter) if first[index] != second[index]), shorter)
