"""Products of tokens with the matrices of their adapters; every program computes one token.

So the order of each sum does not depend on the batch. The matrices are found through a table on the device, so a graph
that was captured with some adapters serves all others. An entry of the table [slots, NUM_SITES, ENTRY] says where A
[parts, rank, columns] and B [rows, rank] of a matrix begin, in units of `UNIT` numbers from `anchor`, and their rank, a
multiple of `RANKS`; 0 if the adapter does not change this matrix.
"""

from __future__ import annotations

import triton
import triton.language as tl

ENTRY = tl.constexpr(3)
UNIT = tl.constexpr(16)
RANKS = tl.constexpr(16)  # that a program computes at once
NO_NORM = tl.constexpr(0)  # as in `linear`
LAYER_NORM = tl.constexpr(2)


@triton.jit
def _entry(slots, table, token, site, NUM_SITES: tl.constexpr):
    """Return the token's slot, and the entry of its adapter in the table."""
    slot = tl.load(slots + token)
    return slot, table + (tl.maximum(slot, 0).to(tl.int64) * NUM_SITES + site) * ENTRY


@triton.jit
def _norm(x, token, epsilon, NUM_COLUMNS: tl.constexpr, COLUMNS: tl.constexpr, NORM: tl.constexpr):
    """Return the mean that the norm subtracts from the token's states, and its factor."""
    sums = tl.zeros((COLUMNS,), tl.float32)
    squares = tl.zeros((COLUMNS,), tl.float32)
    for begin in range(0, NUM_COLUMNS, COLUMNS):
        column = begin + tl.arange(0, COLUMNS)
        state = tl.load(x + token * NUM_COLUMNS + column, mask=column < NUM_COLUMNS, other=0.0).to(tl.float32)
        sums += state
        squares += state * state
    variance = tl.sum(squares, axis=0) / NUM_COLUMNS
    mean = 0.0
    if NORM == LAYER_NORM:
        mean = tl.sum(sums, axis=0) / NUM_COLUMNS
        variance -= mean * mean
    return mean, tl.rsqrt(variance + epsilon)


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
    NORM: tl.constexpr,
    PDL: tl.constexpr,
):
    """out [tokens, parts, MAX_RANK] = A times norm(x) of the tokens with adapters, x [tokens, NUM_COLUMNS].

    Programs are (token, part, n): together n = 0, 1, ... compute all ranks.
    """
    token, part, first = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2) * RANKS
    if PDL:
        tl.extra.cuda.gdc_launch_dependents()
        tl.extra.cuda.gdc_wait()
    slot, entry = _entry(slots, table, token, site, NUM_SITES)
    rank = 0
    if slot > 0:
        rank = tl.load(entry + 2).to(tl.int32)
    if first < rank:
        matrix = anchor + tl.load(entry) * UNIT + part * rank * NUM_COLUMNS
        mean, factor = 0.0, 1.0
        if NORM:
            mean, factor = _norm(x, token, epsilon, NUM_COLUMNS, COLUMNS, NORM)
        for begin in range(first, rank, tl.num_programs(2) * RANKS):
            row = begin + tl.arange(0, RANKS)
            sums = tl.zeros((RANKS,), tl.float32)
            for left in range(0, NUM_COLUMNS, COLUMNS):
                column = left + tl.arange(0, COLUMNS)
                is_there = column < NUM_COLUMNS
                state = tl.load(x + token * NUM_COLUMNS + column, mask=is_there, other=0.0).to(tl.float32)
                if NORM:
                    state = (state - mean) * factor
                    state *= tl.load(norm_weight + column, mask=is_there, other=0.0).to(tl.float32)
                if NORM == LAYER_NORM:
                    state += tl.load(norm_bias + column, mask=is_there, other=0.0).to(tl.float32)
                pointers = matrix + row[:, None] * NUM_COLUMNS + column[None, :]
                values = tl.load(pointers, mask=is_there[None, :], other=0.0).to(tl.float32)
                sums += tl.sum(values * state[None, :], axis=1)
            tl.store(out + (token * tl.num_programs(1) + part) * MAX_RANK + row, sums)


@triton.jit(do_not_specialize=["site"], do_not_specialize_on_alignment=["slots"])
def multiply_up(
    x,
    row_parts,
    slots,
    table,
    anchor,
    out,
    site,
    NUM_SITES: tl.constexpr,
    NUM_PARTS: tl.constexpr,
    NUM_ROWS: tl.constexpr,
    ROWS: tl.constexpr,
    MAX_RANK: tl.constexpr,
    PDL: tl.constexpr,
):
    """out [tokens, NUM_ROWS] = B times x of the tokens with adapters, x [tokens, NUM_PARTS, MAX_RANK].

    Programs are (token, block of ROWS rows). Row i takes part `row_parts[i]` of x.
    """
    token, row = tl.program_id(0).to(tl.int64), tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    is_row = row < NUM_ROWS
    part = tl.load(row_parts + row, mask=is_row, other=0)
    if PDL:
        tl.extra.cuda.gdc_launch_dependents()
        tl.extra.cuda.gdc_wait()
    slot, entry = _entry(slots, table, token, site, NUM_SITES)
    if slot > 0:
        rank = tl.multiple_of(tl.load(entry + 2).to(tl.int32), RANKS)
        matrix = anchor + tl.load(entry + 1) * UNIT
        inner = x + (token * NUM_PARTS + part) * MAX_RANK
        sums = tl.zeros((ROWS,), tl.float32)
        for begin in range(0, rank, RANKS):
            column = begin + tl.arange(0, RANKS)
            pointers = matrix + row[:, None].to(tl.int64) * rank + column[None, :]
            values = tl.load(pointers, mask=is_row[:, None], other=0.0).to(tl.float32)
            sums += tl.sum(values * tl.load(inner[:, None] + column[None, :]), axis=1)
        tl.store(out + token * NUM_ROWS + row, sums, mask=is_row)


@triton.jit
def load_added(added, slots, row, token, num_tokens, NUM_ROWS: tl.constexpr):
    """Load the result of `multiply_up` for rows [rows] of tokens [tokens], [rows, tokens]; 0 without an adapter."""
    slot = tl.load(slots + token, mask=token < num_tokens, other=0)
    is_there = (slot > 0)[None, :] & (row < NUM_ROWS)[:, None]
    return tl.load(added + token[None, :].to(tl.int64) * NUM_ROWS + row[:, None], mask=is_there, other=0.0)
