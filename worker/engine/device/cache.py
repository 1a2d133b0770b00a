"""Keys and values of all sequences, in blocks."""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK_TOKENS = 32


class PagedCache:
    """Keys [layers, blocks + 1, kv_heads, BLOCK_TOKENS, head_size], and values with the last two dimensions exchanged.

    So a product reads both in their order (`fused.kernels.attention`). Which block holds which tokens of which sequence
    is the engine's business. The last block takes what is computed for tokens that do not count; nobody reads it. What
    a sequence has not written of its blocks may be anything, NaN included.

    Args:
        num_layers: of the model.
        num_blocks: that the engine hands out.
        num_heads: of keys.
        head_size: numbers of a key.
        dtype: their format.
        device: where they are.
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
        """Of all keys and values."""
        return self.keys.nbytes + self.values.nbytes

    def write(self, layer: int, blocks: Tensor, offsets: Tensor, keys: Tensor, values: Tensor) -> None:
        """Store a layer's new states, [tokens, kv_heads, head_size], at `offsets` [tokens] in `blocks` [tokens]."""
        self.keys[layer][blocks, :, offsets] = keys
        self.values[layer][blocks, :, :, offsets] = values

    def read(self, layer: int, tables: Tensor) -> tuple[Tensor, Tensor]:
        """Copies of a layer's states in the blocks of `tables` [rows, n].

        Returns:
            Keys and values, [rows, kv_heads, n * BLOCK_TOKENS, head_size] each.
        """
        keys, values = self.keys[layer][tables], self.values[layer][tables].transpose(3, 4)
        return keys.transpose(1, 2).flatten(2, 3), values.transpose(1, 2).flatten(2, 3)

    def copy(self, source: int, target: int, num_tokens: int) -> None:
        """Copy the first tokens of a block to another one."""
        self.keys[:, target, :, :num_tokens] = self.keys[:, source, :, :num_tokens]
        self.values[:, target, ..., :num_tokens] = self.values[:, source, ..., :num_tokens]
