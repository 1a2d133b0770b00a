"""Packs matrices in the order in which the tensor cores read them.

A program computes 16 rows of a matrix. Each of its `SPLITS` warps takes a part of the columns, in steps of 32: every
thread loads 16 bytes at once that are already in the register order of `mma.m16n8k16`, so nothing goes through shared
memory. The order is that of the PTX manual ("Matrix Fragments for mma.m16n8k16"), except that a thread's columns are
contiguous: a sum over columns may use any order, as long as both factors use the same one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

SPLITS = 4  # warps of a program, each with a part of the columns
TILE_ROWS = 16
COLUMN_MULTIPLE = 16 * SPLITS
BLOCK = 32  # columns that a warp computes in a step
MAX_BLOCKS = 8  # maximum steps of a piece of columns


@dataclass(frozen=True, slots=True)
class PackedLinear:
    """A matrix, its bias, and the row sums that a preceding layer norm needs to subtract the mean."""

    weight: Tensor  # [tiles * 16 * padded columns]
    num_tiles: int
    num_columns: int  # of the matrix
    padded_columns: int  # a multiple of COLUMN_MULTIPLE
    bias: Tensor | None = None  # float32 [tiles * 16]
    row_sums: Tensor | None = None  # float32 [tiles * 16], of each row's weights


def pieces(padded_columns: int) -> Iterator[tuple[int, int]]:
    """Yield where each piece of columns begins, and its blocks per warp; 0 means half a block.

    The order is that of `linear._product`: as many pieces of 8 blocks as fit, then at most one each of 4, 2, 1 and half
    a block.
    """
    unit = BLOCK * SPLITS
    begin = 0
    while padded_columns - begin >= MAX_BLOCKS * unit:
        yield begin, MAX_BLOCKS
        begin += MAX_BLOCKS * unit
    for num_blocks in (4, 2, 1):
        if padded_columns - begin >= num_blocks * unit:
            yield begin, num_blocks
            begin += num_blocks * unit
    if begin < padded_columns:
        yield begin, 0


def pack(
    weight: Tensor, *, bias: Tensor | None = None, norm: Tensor | None = None, norm_bias: Tensor | None = None
) -> PackedLinear:
    """Pack a matrix in the order of its rows.

    Args:
        weight: [rows, columns].
        bias: [rows].
        norm: [columns], the weights of the norm before the matrix, which are multiplied into the matrix.
        norm_bias: [columns], the bias of a layer norm before the matrix, which is folded into the bias.
    """
    exact = weight.float()
    if norm_bias is not None:
        added = exact @ norm_bias.float()
        bias = added if bias is None else bias.float() + added
    folded = weight if norm is None else (exact * norm.float()).to(weight.dtype)
    num_rows, num_columns = weight.shape
    rows, columns = -num_rows % TILE_ROWS, -num_columns % COLUMN_MULTIPLE
    padded = pad(folded, (0, columns, 0, rows))
    return PackedLinear(
        weight=_in_fragments(padded),
        num_tiles=padded.shape[0] // TILE_ROWS,
        num_columns=num_columns,
        padded_columns=padded.shape[1],
        bias=None if bias is None else pad(bias.float(), (0, rows)),
        row_sums=None if norm_bias is None else padded.float().sum(dim=1),
    )


def paired(first: Tensor, second: Tensor) -> Tensor:
    """Interleave the rows of two matrices (or vectors) in groups of 8, so that a tile has the matching rows of both.

    Raises:
        ValueError: their shapes differ, or the number of rows is not a multiple of 8.
    """
    if first.shape != second.shape or first.shape[0] % 8:
        raise ValueError(f"Cannot pair rows of {tuple(first.shape)} and {tuple(second.shape)}.")
    eights = [part.reshape(-1, 1, 8, *part.shape[1:]) for part in (first, second)]
    return torch.cat(eights, dim=1).flatten(0, 2)


def paired_halves(rows: Tensor, head_size: int) -> Tensor:
    """Reorder the rows of heads so that the two rows of a rotation, i and i + head_size / 2, are in the same tile."""
    halves = rows.reshape(-1, 2, head_size // 2, *rows.shape[1:])
    return paired(halves[:, 0].flatten(0, 1), halves[:, 1].flatten(0, 1))


def _in_fragments(weight: Tensor) -> Tensor:
    """Flatten [rows, columns] to 1-D: tile by tile, and piece by piece within a tile."""
    parts = []
    for begin, num_blocks in pieces(weight.shape[1]):
        part = weight[:, begin : begin + (num_blocks * BLOCK * SPLITS or COLUMN_MULTIPLE)]
        parts.append(_whole_blocks(part, num_blocks) if num_blocks else _half_block(part))
    return torch.cat(parts, dim=1).flatten().contiguous()


def _whole_blocks(part: Tensor, num_blocks: int) -> Tensor:
    """Reorder [rows, SPLITS * num_blocks * 32] to [tiles, ...] in the order block, step, warp, lane, register."""
    # tile, half of rows, lane's row, warp, block, lane's column, step, half of columns, pair
    split = part.reshape(-1, 2, 8, SPLITS, num_blocks, 4, 2, 2, 2)
    return split.permute(0, 4, 6, 3, 2, 5, 7, 1, 8).flatten(1)


def _half_block(part: Tensor) -> Tensor:
    """Reorder [rows, SPLITS * 16] to [tiles, ...] in the order warp, lane, register."""
    # tile, half of rows, lane's row, warp, lane's column, half of columns, pair
    split = part.reshape(-1, 2, 8, SPLITS, 4, 2, 2)
    return split.permute(0, 3, 2, 4, 5, 1, 6).flatten(1)
