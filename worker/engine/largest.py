"""The largest values of long rows.

On a CPU torch's own `max` and `topk` look at every value with scalar code. So the maxima of blocks, which torch takes
with vector instructions, tell first which few blocks are worth a look. The results are exact.
"""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK = 64  # values


def row_max(values: Tensor) -> tuple[Tensor, Tensor]:
    """The largest value of each row of [rows, n] and the first place where it stands, both [rows]. NaN wins."""
    if values.is_cuda:
        return torch.max(values, dim=-1)
    block = _block_maxima(values).argmax(dim=-1, keepdim=True)
    places = _places(block)
    if values.shape[-1] % BLOCK:
        places.clamp_(max=values.shape[-1] - 1)
    best = values.gather(-1, places).max(dim=-1, keepdim=True)
    return best.values[:, 0], places.gather(-1, best.indices)[:, 0]


def largest(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` largest values of each row of [rows, n], descending, and their places, both [rows, count]."""
    size = values.shape[-1]
    if values.is_cuda and count >= size:
        return torch.sort(values, dim=-1, descending=True)
    if 2 * count * BLOCK > size:
        return torch.topk(values, min(count, size), dim=-1)
    # There are `count` values at least as large as the least of these blocks' maxima, and all larger ones are in them.
    places = _places(_block_maxima(values).topk(count, dim=-1, sorted=False).indices)
    if size % BLOCK:
        inside = values.gather(-1, places.clamp(max=size - 1)).masked_fill_(places >= size, -torch.inf)
    else:
        inside = values.gather(-1, places)
    best = inside.topk(count, dim=-1)
    return best.values, places.gather(-1, best.indices).clamp_(max=size - 1)


def _block_maxima(values: Tensor) -> Tensor:
    """[rows, blocks]; the last block may be shorter than the others."""
    num_rows, size = values.shape
    num_whole = size // BLOCK
    maxima = values[:, : num_whole * BLOCK].view(num_rows, num_whole, BLOCK).amax(dim=-1)
    if size % BLOCK:
        maxima = torch.cat([maxima, values[:, num_whole * BLOCK :].amax(dim=-1, keepdim=True)], dim=-1)
    return maxima


def _places(blocks: Tensor) -> Tensor:
    """The places of the values of some blocks: [rows, blocks] -> [rows, blocks * BLOCK]."""
    return (blocks[:, :, None] * BLOCK + torch.arange(BLOCK, device=blocks.device)).flatten(1)
