"""Finds the largest values of long rows.

On a CPU torch's own `max` and `topk` process each value with scalar code. So the maxima of blocks, which torch computes
with vector instructions, first select the few blocks that matter. The results are exact.
"""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 64  # values


def row_max(values: Tensor) -> tuple[Tensor, Tensor]:
    """Return the largest value of each row of [rows, n] and its first index, both [rows]. NaN counts as the largest."""
    if values.is_cuda:
        return torch.max(values, dim=-1)
    block = _block_maxima(values).argmax(dim=-1, keepdim=True)
    indices = _indices(block)
    if values.shape[-1] % BLOCK:
        indices.clamp_(max=values.shape[-1] - 1)
    best = values.gather(-1, indices).max(dim=-1, keepdim=True)
    return best.values[:, 0], indices.gather(-1, best.indices)[:, 0]


def topk(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the `count` largest values of each row of [rows, n], descending, and their indices, both [rows, count]."""
    size = values.shape[-1]
    if values.is_cuda and count >= size:
        return torch.sort(values, dim=-1, descending=True)
    if 2 * count * BLOCK > size:
        return torch.topk(values, min(count, size), dim=-1)
    # `count` values reach the smallest of these blocks' maxima, and all larger values are in these blocks.
    indices = _indices(_block_maxima(values).topk(count, dim=-1, sorted=False).indices)
    if size % BLOCK:
        inside = values.gather(-1, indices.clamp(max=size - 1)).masked_fill_(indices >= size, -torch.inf)
    else:
        inside = values.gather(-1, indices)
    best = inside.topk(count, dim=-1)
    return best.values, indices.gather(-1, best.indices).clamp_(max=size - 1)


def _block_maxima(values: Tensor) -> Tensor:
    """Return the maxima [rows, blocks]; the last block may be shorter than the others."""
    num_rows, size = values.shape
    num_whole = size // BLOCK
    maxima = values[:, : num_whole * BLOCK].view(num_rows, num_whole, BLOCK).amax(dim=-1)
    if size % BLOCK:
        maxima = torch.cat([maxima, values[:, num_whole * BLOCK :].amax(dim=-1, keepdim=True)], dim=-1)
    return maxima


def _indices(blocks: Tensor) -> Tensor:
    """Return the indices of the values of some blocks: [rows, blocks] -> [rows, blocks * BLOCK]."""
    return (blocks[:, :, None] * BLOCK + torch.arange(BLOCK, device=blocks.device)).flatten(1)
