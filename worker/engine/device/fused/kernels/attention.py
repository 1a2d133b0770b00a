"""Attention over the paged cache.

A program computes one key head and 16 query rows: the query heads that share it, of one token that is decoded or of
several consecutive tokens of a prompt. Keys are processed in tiles of 128, one block of the cache for each of four
warps. As in `linear`, every thread loads 16 bytes at once that are in the order of its registers: for keys these are
numbers of one key; for values, which the cache holds transposed, numbers of several tokens. The mapping from columns of
the scores to keys is chosen so that the weights are in the order that their product with the values needs.

Each tile is computed independently, and tiles are merged in order, whether one program computes them all or the last
of several programs merges them: a token's bits are the same in both cases.
"""

from __future__ import annotations

import triton
import triton.language as tl

from worker.engine.device.fused.kernels.warps import four, sum_of_four, sum_of_warps

WARPS = 4
TILE = 128  # keys: WARPS blocks of the cache
ROWS = 16  # query rows of a program, the minimum for the tensor cores
# Arguments that change from step to step and must not cause a recompilation.
COUNTS = ["table_length", "max_tiles"]
INPUTS = ["positions", "table_rows", "tables"]


@triton.jit
def _key_of_column(column):
    """Return which of a block's 32 keys belongs to a column of the scores."""
    return column // 2 % 4 * 8 + column // 16 * 4 + column // 8 % 2 * 2 + column % 2


@triton.jit
def _first_row(tables, table_row, table_length, block, last, head, NUM_KV_HEADS: tl.constexpr):
    """Return the row of a sequence's block in its layer's cache, seen as [rows, 32 * HEAD_SIZE]."""
    number = tl.load(tables + table_row * table_length + block, mask=block * 32 <= last, other=0)
    return number.to(tl.int64) * NUM_KV_HEADS + head


@triton.jit
def _first_rows(tables, table_row, table_length, tile, last, head, NUM_KV_HEADS: tl.constexpr):
    """Return the rows of a tile's four blocks."""
    return (
        _first_row(tables, table_row, table_length, tile * 4, last, head, NUM_KV_HEADS),
        _first_row(tables, table_row, table_length, tile * 4 + 1, last, head, NUM_KV_HEADS),
        _first_row(tables, table_row, table_length, tile * 4 + 2, last, head, NUM_KV_HEADS),
        _first_row(tables, table_row, table_length, tile * 4 + 3, last, head, NUM_KV_HEADS),
    )


@triton.jit
def _of_warps(rows, warp):
    """Select one of four numbers for each element of a tile, by its warp."""
    first, second, third, fourth = rows
    return tl.where(warp < 2, tl.where(warp == 0, first, second), tl.where(warp == 2, third, fourth))


@triton.jit
def _load_keys(keys, rows, tile, begin, end, HEAD_SIZE: tl.constexpr, SIZE: tl.constexpr):
    """Load a tile's keys at positions `begin` to `end` - 1, in the order of `_arranged_keys`; zeros elsewhere.

    Args:
        rows: the row of each warp's block, from `_first_rows`.
    """
    index = tl.arange(0, SIZE * 128)  # part of 32 numbers, part of 8 columns, warp, column, part of 8 numbers, number
    key = index // 64 % 4 * 8 + index // 2048 % 2 * 4 + index // 1024 % 2 * 2 + index // 32 % 2  # `_key_of_column`
    size = index // 4096 * 32 + index // 8 % 4 * 8 + index % 8
    position = tile * 128 + index // 256 % 4 * 32 + key
    is_there = (position >= begin) & (position < end) & (size < HEAD_SIZE)
    offsets = (_of_warps(rows, index // 256 % 4) * 32 + key) * HEAD_SIZE + size
    return tl.load(keys + offsets, mask=is_there, other=0.0)


@triton.jit
def _load_values(values, rows, tile, begin, end, HEAD_SIZE: tl.constexpr, SIZE: tl.constexpr):
    """As `_load_keys`, in the order of `_arranged_values`."""
    index = tl.arange(0, SIZE * 128)  # part of 8 numbers, warp, number, part of 8 keys, key
    size = index // 1024 * 8 + index // 32 % 8
    eight, key = index // 8 % 4 * 8, index % 8
    position = tile * 128 + index // 256 % 4 * 32 + eight
    # Eight keys at once; the unwanted ones may be NaN.
    is_near = (position + 8 > begin) & (position < end) & (size < HEAD_SIZE)
    offsets = (_of_warps(rows, index // 256 % 4) * HEAD_SIZE + size) * 32 + eight + key
    loaded = tl.load(values + offsets, mask=is_near, other=0.0)
    return tl.where((position + key >= begin) & (position + key < end), loaded, 0.0)


@triton.jit
def _arranged_queries(
    queries,
    first,
    head,
    NUM_HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    HEAD_SIZE: tl.constexpr,
    SIZE: tl.constexpr,
    TOKENS: tl.constexpr,
):
    """Load the query rows of a key head for tokens from `first` on, a copy for each warp: [4, 16, SIZE]."""
    index = tl.arange(0, SIZE * 64)
    row, size = index // 1024 % 2 * 8 + index // 32 % 8, index // 2048 * 32 + index // 8 % 4 * 8 + index % 8
    token, own_head = first + row // (16 // TOKENS), row % (16 // TOKENS)
    offsets = (token * NUM_HEADS + head * GROUP + own_head) * HEAD_SIZE + size
    values = tl.load(queries + offsets, mask=(own_head < GROUP) & (size < HEAD_SIZE), other=0.0)
    values = tl.reshape(values, (SIZE // 32, 2, 4, 8, 4, 2, 2, 2))
    return tl.reshape(tl.permute(values, (2, 1, 3, 0, 5, 6, 4, 7)), (4, 16, SIZE))


@triton.jit
def _arranged_keys(values, SIZE: tl.constexpr):
    """Arrange loaded keys as [4, SIZE, 32]."""
    values = tl.reshape(values, (SIZE // 32, 4, 4, 8, 4, 2, 2, 2))
    return tl.reshape(tl.permute(values, (2, 0, 5, 6, 4, 7, 1, 3)), (4, SIZE, 32))


@triton.jit
def _arranged_values(values, SIZE: tl.constexpr):
    """Arrange loaded values as [4, 32, SIZE]."""
    values = tl.reshape(values, (SIZE // 8, 4, 8, 4, 2, 2, 2))
    return tl.reshape(tl.permute(values, (1, 4, 5, 3, 6, 0, 2)), (4, 32, SIZE))


@triton.jit
def _attend(query, keys, values, tile, position, scale, SIZE: tl.constexpr):
    """Compute one tile: [16, SIZE] weighted values, and each row's largest score and sum of weights.

    Args:
        query: [4, 16, SIZE].
        keys: [4, SIZE, 32].
        values: [4, 32, SIZE].
        tile: index of the tile.
        position: [16], the last position that a row may attend to.
        scale: factor for the scores, times log2(e).
    """
    scores = tl.dot(query, keys, input_precision="ieee") * scale
    key = tile * 128 + tl.arange(0, 4)[:, None] * 32 + _key_of_column(tl.arange(0, 32))[None, :]
    scores = tl.where(key[:, None, :] <= position[None, :, None], scores, float("-inf"))
    largest = tl.max(scores, axis=2)
    weights = tl.exp2(scores - tl.where(largest == float("-inf"), 0.0, largest)[:, :, None])
    mixed = tl.dot(weights.to(values.dtype), values, input_precision="ieee")
    total = tl.sum(weights, axis=2)
    first, second, third, fourth = four(tl.permute(tl.reshape(largest, (2, 2, 16)), (2, 0, 1)))
    of_all = tl.maximum(tl.maximum(first, second), tl.maximum(third, fourth))
    share = tl.exp2(largest - tl.where(of_all == float("-inf"), 0.0, of_all)[None, :])
    mixed = sum_of_four(tl.permute(tl.reshape(mixed * share[:, :, None], (2, 2, 16, SIZE)), (2, 3, 0, 1)))
    return mixed, of_all, sum_of_warps(total * share, 16)


@triton.jit
def _merge(mixed, largest, total, more, its_largest, its_total):
    """Merge a tile with the previous ones. A tile that a row may not attend to does not change the row's bits."""
    new = tl.maximum(largest, its_largest)
    base = tl.where(new == float("-inf"), 0.0, new)
    before, now = tl.exp2(largest - base), tl.exp2(its_largest - base)
    return mixed * before[:, None] + more * now[:, None], new, total * before + its_total * now


@triton.jit(do_not_specialize=COUNTS, do_not_specialize_on_alignment=INPUTS)
def decode_attention(
    queries,
    keys,
    values,
    positions,
    table_rows,
    tables,
    out,
    partial_mixed,
    partial_scores,
    counters,
    table_length,
    max_tiles,
    scale,
    NUM_HEADS: tl.constexpr,
    NUM_KV_HEADS: tl.constexpr,
    HEAD_SIZE: tl.constexpr,
    SIZE: tl.constexpr,
    IS_SPLIT: tl.constexpr,
    PDL: tl.constexpr,
):
    """Compute out [tokens, NUM_HEADS, HEAD_SIZE] for one token of each sequence; programs are (token, key head, tile).

    With `IS_SPLIT` the program that ends last for its token and head merges the tiles; otherwise one program computes
    all tiles, which is faster if there are enough tokens for all multiprocessors. All keys and values except the newest
    are in the cache before the previous kernel has ended.

    Args:
        keys: [blocks, NUM_KV_HEADS, 32, HEAD_SIZE].
        values: [blocks, NUM_KV_HEADS, HEAD_SIZE, 32].
        partial_mixed: float32 [tokens, NUM_KV_HEADS, max_tiles, 16, SIZE], intermediate results.
        partial_scores: float32 [tokens, NUM_KV_HEADS, max_tiles, 2, 16], intermediate results.
        counters: int32 [tokens, NUM_KV_HEADS], zeros before and after.
    """
    GROUP: tl.constexpr = NUM_HEADS // NUM_KV_HEADS
    token, head, tile = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    last = tl.load(positions + token)
    table_row = tl.load(table_rows + token)
    rows = _first_rows(tables, table_row, table_length, tile, last, head, NUM_KV_HEADS)
    key_tile = _load_keys(keys, rows, tile, 0, last, HEAD_SIZE, SIZE)
    value_tile = _load_values(values, rows, tile, 0, last, HEAD_SIZE, SIZE)
    if PDL:
        tl.extra.cuda.gdc_launch_dependents()
        tl.extra.cuda.gdc_wait()
    if tile * 128 <= last:
        row, size = tl.arange(0, 16), tl.arange(0, SIZE)
        query = _arranged_queries(queries, token, head, NUM_HEADS, GROUP, HEAD_SIZE, SIZE, 1)
        # One of the two is zero for each number.
        key_tile += _load_keys(keys, rows, tile, last, last + 1, HEAD_SIZE, SIZE)
        value_tile += _load_values(values, rows, tile, last, last + 1, HEAD_SIZE, SIZE)
        mixed, largest, total = _attend(
            query, _arranged_keys(key_tile, SIZE), _arranged_values(value_tile, SIZE), tile, last + row * 0, scale, SIZE
        )
        pointers = out + (token * NUM_HEADS + head * GROUP + row[:, None]) * HEAD_SIZE + size[None, :]
        is_row = (row < GROUP)[:, None] & (size < HEAD_SIZE)[None, :]
        num_tiles = last // 128 + 1
        if IS_SPLIT & (num_tiles > 1):
            begin = (token * NUM_KV_HEADS + head) * max_tiles
            cells = partial_mixed + begin * 16 * SIZE + row[:, None] * SIZE + size[None, :]
            scores = partial_scores + begin * 32 + row
            tl.store(cells + tile * 16 * SIZE, mixed, mask=is_row)
            tl.store(scores + tile * 32, largest, mask=row < GROUP)
            tl.store(scores + tile * 32 + 16, total, mask=row < GROUP)
            tl.debug_barrier()
            num_before = tl.atomic_add(counters + token * NUM_KV_HEADS + head, 1, sem="acq_rel")
            if num_before == num_tiles - 1:
                tl.debug_barrier()
                mixed = tl.load(cells, mask=is_row, other=0.0, cache_modifier=".cg")
                largest = tl.load(scores, mask=row < GROUP, other=0.0, cache_modifier=".cg")
                total = tl.load(scores + 16, mask=row < GROUP, other=1.0, cache_modifier=".cg")
                for index in range(1, num_tiles):
                    more = tl.load(cells + index * 16 * SIZE, mask=is_row, other=0.0, cache_modifier=".cg")
                    its_largest = tl.load(scores + index * 32, mask=row < GROUP, other=0.0, cache_modifier=".cg")
                    its_total = tl.load(scores + index * 32 + 16, mask=row < GROUP, other=1.0, cache_modifier=".cg")
                    mixed, largest, total = _merge(mixed, largest, total, more, its_largest, its_total)
                tl.store(pointers, (mixed / total[:, None]).to(out.dtype.element_ty), mask=is_row)
                tl.store(counters + token * NUM_KV_HEADS + head, 0)
        else:
            for index in range(1, num_tiles):
                rows = _first_rows(tables, table_row, table_length, index, last, head, NUM_KV_HEADS)
                key_tile = _load_keys(keys, rows, index, 0, last + 1, HEAD_SIZE, SIZE)
                value_tile = _load_values(values, rows, index, 0, last + 1, HEAD_SIZE, SIZE)
                more, its_largest, its_total = _attend(
                    query,
                    _arranged_keys(key_tile, SIZE),
                    _arranged_values(value_tile, SIZE),
                    index,
                    last + row * 0,
                    scale,
                    SIZE,
                )
                mixed, largest, total = _merge(mixed, largest, total, more, its_largest, its_total)
            tl.store(pointers, (mixed / total[:, None]).to(out.dtype.element_ty), mask=is_row)


@triton.jit(do_not_specialize=["table_length"], do_not_specialize_on_alignment=INPUTS)
def prompt_attention(
    queries,
    keys,
    values,
    positions,
    table_rows,
    tables,
    out,
    table_length,
    scale,
    NUM_HEADS: tl.constexpr,
    NUM_KV_HEADS: tl.constexpr,
    HEAD_SIZE: tl.constexpr,
    SIZE: tl.constexpr,
    TOKENS: tl.constexpr,
    PDL: tl.constexpr,
):
    """As `decode_attention`, for parts of prompts; programs are (TOKENS tokens of one sequence, key head)."""
    GROUP: tl.constexpr = NUM_HEADS // NUM_KV_HEADS
    ROWS_OF_TOKEN: tl.constexpr = 16 // TOKENS
    first, head = tl.program_id(0) * TOKENS, tl.program_id(1)
    row, size = tl.arange(0, 16), tl.arange(0, SIZE)
    token, query_head = first + row // ROWS_OF_TOKEN, head * GROUP + row % ROWS_OF_TOKEN
    position = tl.load(positions + token)
    table_row = tl.load(table_rows + first)
    if PDL:
        tl.extra.cuda.gdc_launch_dependents()
        tl.extra.cuda.gdc_wait()
    last = tl.max(position, axis=0)
    if last >= 0:
        query = _arranged_queries(queries, first, head, NUM_HEADS, GROUP, HEAD_SIZE, SIZE, TOKENS)
        mixed = tl.zeros((16, SIZE), tl.float32)
        largest = tl.full((16,), float("-inf"), tl.float32)
        total = tl.zeros((16,), tl.float32)
        for tile in range(last // 128 + 1):
            rows = _first_rows(tables, table_row, table_length, tile, last, head, NUM_KV_HEADS)
            key_tile = _load_keys(keys, rows, tile, 0, last + 1, HEAD_SIZE, SIZE)
            value_tile = _load_values(values, rows, tile, 0, last + 1, HEAD_SIZE, SIZE)
            more, its_largest, its_total = _attend(
                query, _arranged_keys(key_tile, SIZE), _arranged_values(value_tile, SIZE), tile, position, scale, SIZE
            )
            if tile == 0:
                mixed, largest, total = more, its_largest, its_total
            else:
                mixed, largest, total = _merge(mixed, largest, total, more, its_largest, its_total)
        pointers = out + (token[:, None] * NUM_HEADS + query_head[:, None]) * HEAD_SIZE + size[None, :]
        is_there = ((row % ROWS_OF_TOKEN < GROUP) & (position >= 0))[:, None] & (size < HEAD_SIZE)[None, :]
        tl.store(pointers, (mixed / total[:, None]).to(out.dtype.element_ty), mask=is_there)
