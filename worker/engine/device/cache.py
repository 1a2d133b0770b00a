"""Holds the keys and values of all sequences in blocks."""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK_TOKENS = 32


class PagedCache:
    """Keys [layers, blocks + 1, kv_heads, BLOCK_TOKENS, head_size], and values with the last two dimensions exchanged.

    So a product reads both contiguously (`fused.kernels.attention`). The engine decides which block holds which tokens
    of which sequence. The last block receives the states of padding tokens; it is never read. Parts of a block that its
    sequence has not written may contain anything, including NaN.

    Args:
        num_layers: layers of the model.
        num_blocks: blocks that the engine can allocate.
        num_heads: key-value heads.
        head_size: numbers per key.
        dtype: format of the numbers.
        device: location of the cache.
    """

    def __init__(
        self,
        *,
        num_layers: int,
        num_blocks: int,
        num_heads: int,
        head_size: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        shape = (num_layers, num_blocks + 1, num_heads)
        self.unused_block = num_blocks
        self.keys = torch.zeros(*shape, BLOCK_TOKENS, head_size, dtype=dtype, device=device)
        self.values = torch.zeros(*shape, head_size, BLOCK_TOKENS, dtype=dtype, device=device)

    @property
    def num_bytes(self) -> int:
        """Size of all keys and values in bytes."""
        return self.keys.nbytes + self.values.nbytes

    def write(self, layer: int, blocks: Tensor, offsets: Tensor, keys: Tensor, values: Tensor) -> None:
        """Store a layer's new states, [tokens, kv_heads, head_size], at `offsets` [tokens] in `blocks` [tokens]."""
        self.keys[layer][blocks, :, offsets] = keys
        self.values[layer][blocks, :, :, offsets] = values

    def read(self, layer: int, tables: Tensor) -> tuple[Tensor, Tensor]:
        """Copy a layer's states out of the blocks of `tables` [rows, n].

        Returns:
            Keys and values, [rows, kv_heads, n * BLOCK_TOKENS, head_size] each.
        """
        keys, values = self.keys[layer][tables], self.values[layer][tables].transpose(3, 4)
        return keys.transpose(1, 2).flatten(2, 3), values.transpose(1, 2).flatten(2, 3)

    def copy(self, source: int, target: int, num_tokens: int) -> None:
        """Copy the first tokens of a block to another block."""
        self.keys[:, target, :, :num_tokens] = self.keys[:, source, :, :num_tokens]
        self.values[:, target, ..., :num_tokens] = self.values[:, source, ..., :num_tokens]
