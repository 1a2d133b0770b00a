"""Products with packed matrices, fused with norms, activations and rotations.

A program computes 16 rows of the matrix for up to 8 * N8 tokens. The order of each sum does not depend on the number of
tokens, so a token's bits do not depend on its batch, nor on whether it is decoded or part of a prompt.

With `PDL` a kernel starts before the previous one has ended: it loads its weights immediately, and waits only before it
reads the other kernel's results (CUDA's programmatic dependent launch).
"""

from __future__ import annotations

import triton
import triton.language as tl

from worker.engine.device.fused.kernels.adapters import added_rows, early_down, early_up, load_entries
from worker.engine.device.fused.kernels.heads import load_angles, load_blocks, store_heads
from worker.engine.device.fused.kernels.warps import sum_of_four, sum_of_warps

NO_NORM = tl.constexpr(0)
RMS_NORM = tl.constexpr(1)
LAYER_NORM = tl.constexpr(2)
NO_ACTIVATION = tl.constexpr(0)
GELU = tl.constexpr(1)
SWIGLU = tl.constexpr(2)
# Arguments that change from step to step and must not cause a recompilation.
COUNTS = ["num_tokens", "table_length", "site"]
INPUTS = ["positions", "table_rows", "tables", "slots"]


@triton.jit
def _blocks_of_weights(weights, begin, BLOCKS: tl.constexpr, SPLITS: tl.constexpr):
    """Load a piece of a tile as `packing` wrote it: [SPLITS, 16, BLOCKS * 32]."""
    values = tl.load(weights + begin + tl.arange(0, BLOCKS * SPLITS * 512))
    # block, step, warp, lane's row, lane's column, half of columns, half of rows, pair
    values = tl.reshape(values, (BLOCKS, 2, SPLITS, 8, 4, 2, 2, 2))
    return tl.reshape(tl.permute(values, (2, 6, 3, 0, 1, 5, 4, 7)), (SPLITS, 16, BLOCKS * 32))


@triton.jit
def _half_block_of_weights(weights, begin, SPLITS: tl.constexpr):
    """Load half a block of a tile: [SPLITS, 16, 16]."""
    values = tl.load(weights + begin + tl.arange(0, SPLITS * 256))
    values = tl.reshape(values, (SPLITS, 8, 4, 2, 2, 2))
    return tl.reshape(tl.permute(values, (0, 4, 1, 3, 2, 5)), (SPLITS, 16, 16))


@triton.jit
def _blocks_of_states(
    x,
    first,
    num_tokens,
    column,
    NUM_COLUMNS: tl.constexpr,
    BLOCKS: tl.constexpr,
    SPLITS: tl.constexpr,
    N8: tl.constexpr,
):
    """Load the same columns of the tokens' states: [SPLITS, BLOCKS * 32, N8 * 8]."""
    index = tl.arange(0, N8 * BLOCKS * SPLITS * 256)
    within = (index // 256 % SPLITS * BLOCKS + index // (256 * SPLITS) % BLOCKS) * 32 + index // 8 % 4 * 8 + index % 8
    token = first + index // (256 * SPLITS * BLOCKS) * 8 + index // 32 % 8
    column += within
    values = tl.load(x + token * NUM_COLUMNS + column, mask=(token < num_tokens) & (column < NUM_COLUMNS), other=0.0)
    # eight of tokens, block, warp, token, lane's column, step, half of columns, pair
    values = tl.reshape(values, (N8, BLOCKS, SPLITS, 8, 4, 2, 2, 2))
    return tl.reshape(tl.permute(values, (2, 1, 5, 6, 4, 7, 0, 3)), (SPLITS, BLOCKS * 32, N8 * 8))


@triton.jit
def _half_block_of_states(
    x, first, num_tokens, column, NUM_COLUMNS: tl.constexpr, SPLITS: tl.constexpr, N8: tl.constexpr
):
    """Load half a block of the tokens' states: [SPLITS, 16, N8 * 8]."""
    index = tl.arange(0, N8 * SPLITS * 128)
    token = first + index // (128 * SPLITS) * 8 + index // 16 % 8
    column += index // 128 % SPLITS * 16 + index // 4 % 4 * 4 + index % 4
    values = tl.load(x + token * NUM_COLUMNS + column, mask=(token < num_tokens) & (column < NUM_COLUMNS), other=0.0)
    values = tl.reshape(values, (N8, SPLITS, 8, 4, 2, 2))
    return tl.reshape(tl.permute(values, (1, 4, 3, 5, 0, 2)), (SPLITS, 16, N8 * 8))


@triton.jit
def _add(part, weights, states, sums, squares, NORM: tl.constexpr):
    """Add the product of a piece, and the sums for the norm."""
    part = tl.dot(weights, states, part, input_precision="ieee")
    if NORM:
        exact = states.to(tl.float32)
        squares += tl.sum(exact * exact, axis=1)
        if NORM == LAYER_NORM:
            sums += tl.sum(exact, axis=1)
    return part, sums, squares


@triton.jit
def _load_weights(weights, tile, PADDED: tl.constexpr, SPLITS: tl.constexpr):
    """Load a tile's last piece of 8 blocks, and its pieces of 4, 2, 1 and half a block; 0 for missing ones."""
    UNIT: tl.constexpr = 32 * SPLITS
    REST_4: tl.constexpr = PADDED // (8 * UNIT) * (8 * UNIT)
    REST_2: tl.constexpr = REST_4 + PADDED % (8 * UNIT) // (4 * UNIT) * (4 * UNIT)
    REST_1: tl.constexpr = REST_2 + PADDED % (4 * UNIT) // (2 * UNIT) * (2 * UNIT)
    REST_HALF: tl.constexpr = REST_1 + PADDED % (2 * UNIT) // UNIT * UNIT
    begin = tile.to(tl.int64) * 16 * PADDED
    eight, four, two, one, half = 0, 0, 0, 0, 0
    if REST_4 > 0:
        eight = _blocks_of_weights(weights, begin + 16 * (REST_4 - 8 * UNIT), 8, SPLITS)
    if REST_2 > REST_4:
        four = _blocks_of_weights(weights, begin + 16 * REST_4, 4, SPLITS)
    if REST_1 > REST_2:
        two = _blocks_of_weights(weights, begin + 16 * REST_2, 2, SPLITS)
    if REST_HALF > REST_1:
        one = _blocks_of_weights(weights, begin + 16 * REST_1, 1, SPLITS)
    if PADDED > REST_HALF:
        half = _half_block_of_weights(weights, begin + 16 * REST_HALF, SPLITS)
    return eight, four, two, one, half


@triton.jit
def _wait(PDL: tl.constexpr):
    """Let the next kernel start, and wait for the results of the previous one."""
    if PDL:
        tl.extra.cuda.gdc_launch_dependents()
        tl.extra.cuda.gdc_wait()


@triton.jit
def _product(
    x,
    weights,
    loaded,
    tile,
    first,
    num_tokens,
    NUM_COLUMNS: tl.constexpr,
    PADDED: tl.constexpr,
    NORM: tl.constexpr,
    SPLITS: tl.constexpr,
    N8: tl.constexpr,
):
    """Multiply a tile of the matrix by the tokens' states, per warp: [SPLITS, 16, N8 * 8] in 32 bits.

    Args:
        loaded: the result of `_load_weights` for the tile.

    Returns:
        The product, and the sums [SPLITS, N8 * 8] of the states and of their squares for the norm. The norm's weights
        are folded into the matrix; the rest is the same for all columns of a token, so it is applied to the product.
    """
    UNIT: tl.constexpr = 32 * SPLITS
    ROUNDS: tl.constexpr = PADDED // (8 * UNIT)
    REST_4: tl.constexpr = ROUNDS * 8 * UNIT
    REST_2: tl.constexpr = REST_4 + PADDED % (8 * UNIT) // (4 * UNIT) * (4 * UNIT)
    REST_1: tl.constexpr = REST_2 + PADDED % (4 * UNIT) // (2 * UNIT) * (2 * UNIT)
    REST_HALF: tl.constexpr = REST_1 + PADDED % (2 * UNIT) // UNIT * UNIT
    eight, four, two, one, half = loaded
    begin = tile.to(tl.int64) * 16 * PADDED
    part = tl.zeros((SPLITS, 16, N8 * 8), tl.float32)
    sums = tl.zeros((SPLITS, N8 * 8), tl.float32)
    squares = tl.zeros((SPLITS, N8 * 8), tl.float32)
    for index in range(ROUNDS - 1):
        states = _blocks_of_states(x, first, num_tokens, index * 8 * UNIT, NUM_COLUMNS, 8, SPLITS, N8)
        piece = _blocks_of_weights(weights, begin + index * 128 * UNIT, 8, SPLITS)
        part, sums, squares = _add(part, piece, states, sums, squares, NORM)
    if ROUNDS > 0:
        states = _blocks_of_states(x, first, num_tokens, REST_4 - 8 * UNIT, NUM_COLUMNS, 8, SPLITS, N8)
        part, sums, squares = _add(part, eight, states, sums, squares, NORM)
    if REST_2 > REST_4:
        states = _blocks_of_states(x, first, num_tokens, REST_4, NUM_COLUMNS, 4, SPLITS, N8)
        part, sums, squares = _add(part, four, states, sums, squares, NORM)
    if REST_1 > REST_2:
        states = _blocks_of_states(x, first, num_tokens, REST_2, NUM_COLUMNS, 2, SPLITS, N8)
        part, sums, squares = _add(part, two, states, sums, squares, NORM)
    if REST_HALF > REST_1:
        states = _blocks_of_states(x, first, num_tokens, REST_1, NUM_COLUMNS, 1, SPLITS, N8)
        part, sums, squares = _add(part, one, states, sums, squares, NORM)
    if PADDED > REST_HALF:
        states = _half_block_of_states(x, first, num_tokens, REST_HALF, NUM_COLUMNS, SPLITS, N8)
        part, sums, squares = _add(part, half, states, sums, squares, NORM)
    return part, sums, squares


@triton.jit
def _norm(product, epsilon, NUM_COLUMNS: tl.constexpr, NORM: tl.constexpr, N8: tl.constexpr):
    """Return a norm's factor for each token's states, and the mean that a layer norm subtracts first; [N8 * 8].

    Args:
        product: the result of `_product`.
    """
    _, sums, squares = product
    mean = tl.zeros((N8 * 8,), tl.float32)
    variance = sum_of_warps(squares, N8 * 8) / NUM_COLUMNS
    if NORM == LAYER_NORM:
        mean = sum_of_warps(sums, N8 * 8) / NUM_COLUMNS
        variance -= mean * mean
    return tl.rsqrt(variance + epsilon), mean


@triton.jit
def _rows(
    product,
    bias,
    row_sums,
    tile,
    epsilon,
    NUM_COLUMNS: tl.constexpr,
    NORM: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    N8: tl.constexpr,
):
    """Return the tile's rows of the result of `_product`, normalised and with bias: [16, N8 * 8]."""
    rows = sum_of_four(tl.permute(tl.reshape(product[0], (2, 2, 16, N8 * 8)), (2, 3, 0, 1)))
    row = tile * 16 + tl.arange(0, 16)
    if NORM:
        factor, mean = _norm(product, epsilon, NUM_COLUMNS, NORM, N8)
        if NORM == LAYER_NORM:
            rows -= tl.load(row_sums + row)[:, None] * mean[None, :]
        rows *= factor[None, :]
    if HAS_BIAS:
        rows += tl.load(bias + row)[:, None]
    return rows


@triton.jit
def _pairs_of_rows(
    product,
    bias,
    row_sums,
    tile,
    epsilon,
    NUM_COLUMNS: tl.constexpr,
    NORM: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    N8: tl.constexpr,
):
    """As `_rows`, but return the first and the last 8 rows separately: [8, N8 * 8] each."""
    halves = tl.permute(tl.reshape(product[0], (2, 2, 2, 8, N8 * 8)), (3, 4, 2, 0, 1))
    low, high = tl.split(sum_of_four(halves))
    row = tile * 16 + tl.arange(0, 8)
    factor, mean = _norm(product, epsilon, NUM_COLUMNS, NORM, N8)
    if NORM == LAYER_NORM:
        low -= tl.load(row_sums + row)[:, None] * mean[None, :]
        high -= tl.load(row_sums + row + 8)[:, None] * mean[None, :]
    low, high = low * factor[None, :], high * factor[None, :]
    if HAS_BIAS:
        low += tl.load(bias + row)[:, None]
        high += tl.load(bias + row + 8)[:, None]
    return low, high


@triton.jit(do_not_specialize=["num_tokens", "site"], do_not_specialize_on_alignment=["slots"])
def add_product(
    x,
    weights,
    bias,
    before,
    out,
    down,
    row_parts,
    slots,
    table,
    anchor,
    site,
    num_tokens,
    NUM_ROWS: tl.constexpr,
    NUM_COLUMNS: tl.constexpr,
    PADDED: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    HAS_ADAPTERS: tl.constexpr,
    NUM_SITES: tl.constexpr,
    MAX_RANK: tl.constexpr,
    MAX_TOKENS: tl.constexpr,
    SPLITS: tl.constexpr,
    N8: tl.constexpr,
    PDL: tl.constexpr,
):
    """out [tokens, NUM_ROWS] = before + x [tokens, NUM_COLUMNS] times the matrix, plus bias; `out` may be `before`.

    With `HAS_ADAPTERS` here and in the others, plus what the tokens' adapters add, for `down`, the result of
    `adapters.multiply_down`.
    """
    tile, first = tl.program_id(0), tl.program_id(1) * N8 * 8
    loaded = _load_weights(weights, tile, PADDED, SPLITS)
    row, token = tile * 16 + tl.arange(0, 16), first + tl.arange(0, N8 * 8)
    places = token[None, :] * NUM_ROWS + row[:, None]
    is_there = (row < NUM_ROWS)[:, None] & (token < num_tokens)[None, :]
    if HAS_ADAPTERS:
        entries = load_entries(slots, table, site, token, num_tokens, NUM_SITES)
        up = early_up(entries, anchor, row, NUM_ROWS, N8 * 8)
    _wait(PDL)
    if HAS_ADAPTERS:
        inner = early_down(entries, down, row_parts, row, token, N8 * 8, NUM_ROWS, MAX_RANK, MAX_TOKENS)
    states = tl.load(before + places, mask=is_there, other=0.0).to(tl.float32)
    product = _product(x, weights, loaded, tile, first, num_tokens, NUM_COLUMNS, PADDED, NO_NORM, SPLITS, N8)
    states += _rows(product, bias, bias, tile, 0.0, NUM_COLUMNS, NO_NORM, HAS_BIAS, N8)
    if HAS_ADAPTERS:
        states += added_rows(
            entries, up, inner, down, row_parts, anchor, row, token, 16, N8 * 8, NUM_ROWS, MAX_RANK, MAX_TOKENS
        )
    tl.store(out + places, states.to(out.dtype.element_ty), mask=is_there)


@triton.jit(do_not_specialize=["num_tokens", "site"], do_not_specialize_on_alignment=["slots"])
def normed_product(
    x,
    weights,
    bias,
    row_sums,
    out,
    down,
    row_parts,
    slots,
    table,
    anchor,
    site,
    num_tokens,
    epsilon,
    NUM_ROWS: tl.constexpr,
    NUM_COLUMNS: tl.constexpr,
    PADDED: tl.constexpr,
    NORM: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    HAS_ADAPTERS: tl.constexpr,
    NUM_SITES: tl.constexpr,
    MAX_RANK: tl.constexpr,
    MAX_TOKENS: tl.constexpr,
    ACTIVATION: tl.constexpr,
    SPLITS: tl.constexpr,
    N8: tl.constexpr,
    PDL: tl.constexpr,
):
    """out [tokens, NUM_ROWS] = norm(x) times the matrix, plus bias, after the activation.

    For SWIGLU the matrix has the rows of gates and ups paired, and out = silu(gates) * ups.
    """
    IS_PAIRED: tl.constexpr = ACTIVATION == SWIGLU
    NUM_ALL: tl.constexpr = 2 * NUM_ROWS if IS_PAIRED else NUM_ROWS  # rows of the matrix
    AT_ONCE: tl.constexpr = 8 if IS_PAIRED else 16
    tile, first = tl.program_id(0), tl.program_id(1) * N8 * 8
    loaded = _load_weights(weights, tile, PADDED, SPLITS)
    token, row = first + tl.arange(0, N8 * 8), tile * 16 + tl.arange(0, AT_ONCE)
    if HAS_ADAPTERS:
        entries = load_entries(slots, table, site, token, num_tokens, NUM_SITES)
        up = early_up(entries, anchor, row, NUM_ALL, N8 * 8)
        if IS_PAIRED:
            other_up = early_up(entries, anchor, row + 8, NUM_ALL, N8 * 8)
    _wait(PDL)
    if HAS_ADAPTERS:
        inner = early_down(entries, down, row_parts, row, token, N8 * 8, NUM_ALL, MAX_RANK, MAX_TOKENS)
        if IS_PAIRED:
            other_inner = early_down(entries, down, row_parts, row + 8, token, N8 * 8, NUM_ALL, MAX_RANK, MAX_TOKENS)
    product = _product(x, weights, loaded, tile, first, num_tokens, NUM_COLUMNS, PADDED, NORM, SPLITS, N8)
    if IS_PAIRED:
        gates, ups = _pairs_of_rows(product, bias, row_sums, tile, epsilon, NUM_COLUMNS, NORM, HAS_BIAS, N8)
        if HAS_ADAPTERS:
            gates += added_rows(
                entries, up, inner, down, row_parts, anchor, row, token, 8, N8 * 8, NUM_ALL, MAX_RANK, MAX_TOKENS
            )
            row += 8
            ups += added_rows(
                entries,
                other_up,
                other_inner,
                down,
                row_parts,
                anchor,
                row,
                token,
                8,
                N8 * 8,
                NUM_ALL,
                MAX_RANK,
                MAX_TOKENS,
            )
        values = gates * tl.sigmoid(gates) * ups
        row = tile * 8 + tl.arange(0, 8)
    else:
        values = _rows(product, bias, row_sums, tile, epsilon, NUM_COLUMNS, NORM, HAS_BIAS, N8)
        if HAS_ADAPTERS:
            values += added_rows(
                entries, up, inner, down, row_parts, anchor, row, token, 16, N8 * 8, NUM_ALL, MAX_RANK, MAX_TOKENS
            )
        if ACTIVATION == GELU:
            argument = 1.5957691216057308 * (values + 0.044715 * values * values * values)  # twice that of tanh
            values *= tl.sigmoid(argument)
    is_there = (row < NUM_ROWS)[:, None] & (token < num_tokens)[None, :]
    places = out + token[None, :].to(tl.int64) * NUM_ROWS + row[:, None]
    tl.store(places, values.to(out.dtype.element_ty), mask=is_there)


@triton.jit(do_not_specialize=COUNTS, do_not_specialize_on_alignment=INPUTS)
def query_key_value(
    x,
    weights,
    bias,
    row_sums,
    cosines,
    sines,
    positions,
    table_rows,
    tables,
    queries,
    keys,
    values,
    down,
    row_parts,
    slots,
    table,
    anchor,
    site,
    num_tokens,
    table_length,
    epsilon,
    NUM_COLUMNS: tl.constexpr,
    PADDED: tl.constexpr,
    NORM: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    HAS_ADAPTERS: tl.constexpr,
    NUM_SITES: tl.constexpr,
    MAX_RANK: tl.constexpr,
    MAX_TOKENS: tl.constexpr,
    IS_ROTARY: tl.constexpr,
    NUM_HEADS: tl.constexpr,
    NUM_KV_HEADS: tl.constexpr,
    HEAD_SIZE: tl.constexpr,
    BLOCK_TOKENS: tl.constexpr,
    SPLITS: tl.constexpr,
    N8: tl.constexpr,
    PDL: tl.constexpr,
):
    """Compute queries [tokens, NUM_HEADS, HEAD_SIZE], and store keys and values in the cache; all rotated but values.

    The rows of each head are paired by `packing.paired_halves`, so a tile has both numbers of 8 rotations.
    """
    tile, first = tl.program_id(0), tl.program_id(1) * N8 * 8
    loaded = _load_weights(weights, tile, PADDED, SPLITS)
    head = tile // (HEAD_SIZE // 16)
    pair = (tile % (HEAD_SIZE // 16) * 8 + tl.arange(0, 8))[:, None]
    token = (first + tl.arange(0, N8 * 8))[None, :]
    position = tl.load(positions + token, mask=token < num_tokens, other=-1)
    counts = (position >= 0) & (pair >= 0)
    angle = load_angles(cosines, sines, position, pair, counts, IS_ROTARY, HEAD_SIZE)
    block = load_blocks(table_rows, tables, table_length, token, position, BLOCK_TOKENS)
    if HAS_ADAPTERS:
        NUM_ROWS: tl.constexpr = (NUM_HEADS + 2 * NUM_KV_HEADS) * HEAD_SIZE
        row, tokens = tile * 16 + tl.arange(0, 8), first + tl.arange(0, N8 * 8)
        entries = load_entries(slots, table, site, tokens, num_tokens, NUM_SITES)
        up = early_up(entries, anchor, row, NUM_ROWS, N8 * 8)
        other_up = early_up(entries, anchor, row + 8, NUM_ROWS, N8 * 8)
    _wait(PDL)
    if HAS_ADAPTERS:
        inner = early_down(entries, down, row_parts, row, tokens, N8 * 8, NUM_ROWS, MAX_RANK, MAX_TOKENS)
    product = _product(x, weights, loaded, tile, first, num_tokens, NUM_COLUMNS, PADDED, NORM, SPLITS, N8)
    low, high = _pairs_of_rows(product, bias, row_sums, tile, epsilon, NUM_COLUMNS, NORM, HAS_BIAS, N8)
    if HAS_ADAPTERS:
        low += added_rows(
            entries, up, inner, down, row_parts, anchor, row, tokens, 8, N8 * 8, NUM_ROWS, MAX_RANK, MAX_TOKENS
        )
        row += 8
        high += added_rows(
            entries, other_up, inner, down, row_parts, anchor, row, tokens, 8, N8 * 8, NUM_ROWS, MAX_RANK, MAX_TOKENS
        )
    numbers, out = (pair, token, position, counts), (queries, keys, values)
    store_heads(
        low, high, head, numbers, angle, block, out, IS_ROTARY, NUM_HEADS, NUM_KV_HEADS, HEAD_SIZE, BLOCK_TOKENS
    )
