"""Which blocks hold the keys and values of which beginnings of texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice

MAX_COMPARED = 64  # blocks looked at for one that begins alike: the newest


@dataclass(eq=False, slots=True)
class PrefixNode:
    """A block whose tokens follow those of its parent's. Only the last one of a text can be partly filled."""

    parent: PrefixNode | None
    block: int
    token_ids: tuple[int, ...]
    depth: int  # blocks down to this one
    children: dict[tuple[int, ...], PrefixNode] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PrefixMatch:
    """What is there of a text's beginning: whole blocks down to `node`, then a part of the block `partial`."""

    node: PrefixNode
    blocks: list[int]
    partial: int | None = None
    num_partial: int = 0  # tokens of `partial` that fit


class PrefixTree:
    """A tree of blocks per adapter: what an adapter has computed is of no use to another one."""

    def __init__(self, block_tokens: int) -> None:
        self._block_tokens = block_tokens
        self._roots: dict[str, PrefixNode] = {}
        self._nodes: dict[int, PrefixNode] = {}  # by block

    def root(self, adapter: str) -> PrefixNode:
        """Where the adapter's texts begin."""
        return self._roots.setdefault(adapter, PrefixNode(None, -1, (), 0))

    def match(self, adapter: str, token_ids: Sequence[int]) -> PrefixMatch:
        """Find the longest known beginning of a text."""
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
        """Note what the block holds; the node that is there already for these tokens, if there is one."""
        if (known := parent.children.get(token_ids)) is not None:
            return known
        node = PrefixNode(parent, block, token_ids, parent.depth + 1)
        parent.children[token_ids] = self._nodes[block] = node
        return node

    def remove(self, block: int) -> list[int]:
        """Forget what the block holds. Returns the blocks behind it, which can be found no longer either."""
        node = self._nodes.pop(block)
        assert node.parent is not None  # noqa: S101 - only roots have none, and they have no block
        del node.parent.children[node.token_ids]
        return [lost for child in list(node.children.values()) for lost in (child.block, *self.remove(child.block))]


def common_length(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens two texts begin with alike."""
    shorter = min(len(first), len(second))
    return next((index for index in range(shorter) if first[index] != second[index]), shorter)
