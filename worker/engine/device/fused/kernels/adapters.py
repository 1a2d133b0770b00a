"""Products of tokens with the matrices of their adapters.

`multiply_down` computes A x for each token; the kernels of the base's matrices add B (A x) to their own results. No sum
depends on the batch: a program of `multiply_down` computes one token, and `added_rows` adds the ranks in their order.
The matrices are found through a table on the device, so a graph that was captured with some adapters serves all others.
An entry of the table [slots, NUM_SITES, ENTRY] says where A [parts, rank, columns] and B [rows, rank] of a matrix
begin, in units of `UNIT` numbers from `anchor`, and their rank, a multiple of `RANKS`; 0 if the adapter does not change
this matrix. Nothing writes the slots, the table or the matrices during a step, so they are read before the wait for the
previous kernel.
"""

from __future__ import annotations

import triton
import triton.language as tl

ENTRY = tl.constexpr(3)
UNIT = tl.constexpr(16)
RANKS = tl.constexpr(16)  # that a program of `multiply_down` computes at once
WORD_RANKS = tl.constexpr(4)  # ranks of B in a word of 64 bits
EARLY_TOKENS = tl.constexpr(8)  # with more, the numbers that are loaded early take too many registers
NO_NORM = tl.constexpr(0)  # as in `linear`
LAYER_NORM = tl.constexpr(2)


@triton.jit
def _add_columns(sums, moments, values, state, norm_weight, norm_bias, column, is_there, NORM: tl.constexpr):
    """Add some columns to the sums: A times the state, its norm's weights, and its norm's biases; [RANKS] each."""
    products, of_weights, of_biases = sums
    total, squares = moments
    factors = values.to(tl.float32)
    if NORM:
        squares += tl.sum(state * state, axis=0)
        weight = tl.load(norm_weight + column, mask=is_there, other=0.0).to(tl.float32)
        if NORM == LAYER_NORM:
            total += tl.sum(state, axis=0)
            bias = tl.load(norm_bias + column, mask=is_there, other=0.0).to(tl.float32)
            of_weights += tl.sum(factors * weight[None, :], axis=1)
            of_biases += tl.sum(factors * bias[None, :], axis=1)
        state *= weight
    products += tl.sum(factors * state[None, :], axis=1)
    return (products, of_weights, of_biases), (total, squares)


@triton.jit
def _normed(sums, moments, NUM_COLUMNS: tl.constexpr, epsilon, NORM: tl.constexpr):
    """Return A times the normed states from the sums of `_add_columns`."""
    products, of_weights, of_biases = sums
    variance = moments[1] / NUM_COLUMNS
    if NORM == LAYER_NORM:
        mean = moments[0] / NUM_COLUMNS
        variance -= mean * mean
        products -= mean * of_weights
    if NORM:
        products *= tl.rsqrt(variance + epsilon)
    return products + of_biases


@triton.jit(do_not_specialize=["site"], do_not_specialize_on_alignment=["slots"])
def multiply_down(
    x,
    norm_weight,
    norm_bias,
    slots,
    table,
    anchor,
    out,
    site,
    epsilon,
    NUM_SITES: tl.constexpr,
    NUM_COLUMNS: tl.constexpr,
    COLUMNS: tl.constexpr,
    MAX_RANK: tl.constexpr,
    MAX_TOKENS: tl.constexpr,
    NORM: tl.constexpr,
    PDL: tl.constexpr,
):
    """out [parts, MAX_RANK, MAX_TOKENS] = A times norm(x) of the tokens with adapters, x [tokens, NUM_COLUMNS].

    The tokens come last because `added_rows` reads one rank of several tokens at a time. Programs are (token, part, n):
    together n = 0, 1, ... compute all ranks. The norm's factor and mean are applied to the sums over the columns, so x
    is read once.
    """
    token, part, first = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2) * RANKS
    slot = tl.load(slots + token)
    entry = table + (tl.maximum(slot, 0).to(tl.int64) * NUM_SITES + site) * ENTRY
    rank = 0
    if slot > 0:
        rank = tl.load(entry + 2).to(tl.int32)
    places = anchor + tl.load(entry) * UNIT + part * rank * NUM_COLUMNS + tl.arange(0, RANKS)[:, None] * NUM_COLUMNS
    column = tl.arange(0, COLUMNS)
    is_there = (column < NUM_COLUMNS) & (first < rank)
    values = tl.load(places + first * NUM_COLUMNS + column[None, :], mask=is_there[None, :], other=0.0)
    if PDL:
        tl.extra.cuda.gdc_launch_dependents()
        tl.extra.cuda.gdc_wait()
    for begin in range(first, rank, tl.num_programs(2) * RANKS):
        sums = tl.zeros((RANKS,), tl.float32), tl.zeros((RANKS,), tl.float32), tl.zeros((RANKS,), tl.float32)
        moments = tl.zeros((), tl.float32), tl.zeros((), tl.float32)
        for left in range(0, NUM_COLUMNS, COLUMNS):
            column = left + tl.arange(0, COLUMNS)
            is_there = column < NUM_COLUMNS
            if (begin > first) | (left > 0):
                values = tl.load(places + begin * NUM_COLUMNS + column[None, :], mask=is_there[None, :], other=0.0)
            state = tl.load(x + token * NUM_COLUMNS + column, mask=is_there, other=0.0).to(tl.float32)
            sums, moments = _add_columns(sums, moments, values, state, norm_weight, norm_bias, column, is_there, NORM)
        products = _normed(sums, moments, NUM_COLUMNS, epsilon, NORM)
        row = begin + tl.arange(0, RANKS)
        tl.store(out + (part * MAX_RANK + row) * MAX_TOKENS + token, products)


@triton.jit
def load_entries(slots, table, site, token, num_tokens, NUM_SITES: tl.constexpr):
    """Return where the matrices B of tokens [tokens] begin, and their ranks; 0 without an adapter."""
    slot = tl.load(slots + token, mask=token < num_tokens, other=0)
    entry = table + (slot.to(tl.int64) * NUM_SITES + site) * ENTRY
    begin = tl.load(entry + 1, mask=slot > 0, other=0)
    return begin * UNIT, tl.load(entry + 2, mask=slot > 0, other=0).to(tl.int32)


@triton.jit
def early_up(entries, anchor, row, NUM_ROWS: tl.constexpr, TOKENS: tl.constexpr):
    """Load the first ranks of B for `added_rows`, before the wait for the previous kernel."""
    up = 0
    if TOKENS <= EARLY_TOKENS:
        up = _load_up(entries, anchor, row, 0, NUM_ROWS)
    return up


@triton.jit
def early_down(
    entries,
    down,
    row_parts,
    row,
    token,
    TOKENS: tl.constexpr,
    NUM_ROWS: tl.constexpr,
    MAX_RANK: tl.constexpr,
    MAX_TOKENS: tl.constexpr,
):
    """Load the first ranks of A x for `added_rows`, before the base's product."""
    inner = 0
    if TOKENS <= EARLY_TOKENS:
        inner = _load_down(entries, down, row_parts, row, token, 0, NUM_ROWS, MAX_RANK, MAX_TOKENS)
    return inner


@triton.jit
def _load_up(entries, anchor, row, index, NUM_ROWS: tl.constexpr):
    """Load `RANKS` ranks of the tokens' matrices B from `index` on, four to a word: 4 tensors [ROWS, TOKENS]."""
    begin, rank = entries
    words = (anchor + begin).to(tl.pointer_type(tl.int64), bitcast=True)
    words = words[None, :] + row[:, None].to(tl.int64) * (rank // WORD_RANKS)[None, :] + index // WORD_RANKS
    is_there = (index < rank)[None, :] & (row < NUM_ROWS)[:, None]
    return (
        tl.load(words, mask=is_there, other=0),
        tl.load(words + 1, mask=is_there, other=0),
        tl.load(words + 2, mask=is_there, other=0),
        tl.load(words + 3, mask=is_there, other=0),
    )


@triton.jit
def _load_down(
    entries,
    down,
    row_parts,
    row,
    token,
    index,
    NUM_ROWS: tl.constexpr,
    MAX_RANK: tl.constexpr,
    MAX_TOKENS: tl.constexpr,
):
    """Load `RANKS` ranks of what `multiply_down` computed, from `index` on: 4 times 4 tensors [TOKENS]."""
    first = tl.min(row, axis=0)
    part = tl.load(row_parts + first, mask=first < NUM_ROWS, other=0)
    values = down + (part * MAX_RANK + index) * MAX_TOKENS + token
    is_there = index < entries[1]
    return (
        _four_of(values, is_there, MAX_TOKENS),
        _four_of(values + 4 * MAX_TOKENS, is_there, MAX_TOKENS),
        _four_of(values + 8 * MAX_TOKENS, is_there, MAX_TOKENS),
        _four_of(values + 12 * MAX_TOKENS, is_there, MAX_TOKENS),
    )


@triton.jit
def _four_of(values, is_there, MAX_TOKENS: tl.constexpr):
    return (
        tl.load(values, mask=is_there, other=0.0),
        tl.load(values + MAX_TOKENS, mask=is_there, other=0.0),
        tl.load(values + 2 * MAX_TOKENS, mask=is_there, other=0.0),
        tl.load(values + 3 * MAX_TOKENS, mask=is_there, other=0.0),
    )


@triton.jit
def added_rows(
    entries,
    up,
    inner,
    down,
    row_parts,
    anchor,
    row,
    token,
    ROWS: tl.constexpr,
    TOKENS: tl.constexpr,
    NUM_ROWS: tl.constexpr,
    MAX_RANK: tl.constexpr,
    MAX_TOKENS: tl.constexpr,
):
    """Return what the tokens' adapters add to rows of a matrix's result: [ROWS, TOKENS].

    Args:
        entries: the result of `load_entries`.
        up: the result of `early_up`.
        inner: the result of `early_down`.
        down: the result of `multiply_down`.
        row_parts: the part of each row.
        anchor: where the places of matrices are counted from.
        row: [ROWS], all in one part.
        token: [TOKENS].
    """
    if TOKENS > EARLY_TOKENS:
        up = _load_up(entries, anchor, row, 0, NUM_ROWS)
        inner = _load_down(entries, down, row_parts, row, token, 0, NUM_ROWS, MAX_RANK, MAX_TOKENS)
    added = _add_ranks(tl.zeros((ROWS, TOKENS), tl.float32), up, inner, anchor)
    for index in range(RANKS, tl.max(entries[1], axis=0), RANKS):
        up = _load_up(entries, anchor, row, index, NUM_ROWS)
        inner = _load_down(entries, down, row_parts, row, token, index, NUM_ROWS, MAX_RANK, MAX_TOKENS)
        added = _add_ranks(added, up, inner, anchor)
    return added


@triton.jit
def _add_ranks(added, up, inner, anchor):
    """Add the products of `RANKS` ranks, in their order."""
    for step in tl.static_range(RANKS // WORD_RANKS):
        for within in tl.static_range(WORD_RANKS):
            factor = (up[step] >> (16 * within)).to(tl.int16).to(anchor.dtype.element_ty, bitcast=True).to(tl.float32)
            added += factor * inner[step][within][None, :]
    return added
