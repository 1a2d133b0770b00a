"""Rotates the query and key heads of tokens, and stores keys and values in the paged cache."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def load_angles(cosines, sines, position, pair, counts, IS_ROTARY: tl.constexpr, HEAD_SIZE: tl.constexpr):
    """Load cosines and sines of the rotations, [pairs, tokens] each; placeholders if the model is not rotary."""
    cosine, sine = 1.0, 0.0
    if IS_ROTARY:
        offset = position * (HEAD_SIZE // 2) + pair
        cosine = tl.load(cosines + offset, mask=counts, other=0.0)
        sine = tl.load(sines + offset, mask=counts, other=0.0)
    return cosine, sine


@triton.jit
def load_blocks(table_rows, tables, table_length, token, position, BLOCK_TOKENS: tl.constexpr):
    """Load the tokens' blocks in the cache, in the shape of `token`."""
    table_row = tl.load(table_rows + token, mask=position >= 0, other=0)
    offset = table_row * table_length + position // BLOCK_TOKENS
    return tl.load(tables + offset, mask=position >= 0, other=0).to(tl.int64)


@triton.jit
def store_heads(
    low,
    high,
    head,
    numbers,
    angle,
    block,
    out,
    IS_ROTARY: tl.constexpr,
    NUM_HEADS: tl.constexpr,
    NUM_KV_HEADS: tl.constexpr,
    HEAD_SIZE: tl.constexpr,
    BLOCK_TOKENS: tl.constexpr,
):
    """Store the numbers `pair` and `pair + HEAD_SIZE / 2` of a head of the tokens.

    Args:
        low: [pairs, tokens] in 32 bits.
        high: the same, half a head further.
        head: index: queries first, then keys, then values.
        numbers: pair [pairs, 1], below HEAD_SIZE / 2; token [1, tokens]; position [1, tokens]; and [pairs, tokens],
            which numbers to store.
        angle: the result of `load_angles`.
        block: [1, tokens], the result of `load_blocks`.
        out: queries [tokens, NUM_HEADS, HEAD_SIZE]; and of one layer, keys [blocks, NUM_KV_HEADS, BLOCK_TOKENS,
            HEAD_SIZE] and values [blocks, NUM_KV_HEADS, HEAD_SIZE, BLOCK_TOKENS].
    """
    pair, token, position, counts = numbers
    queries, keys, values = out
    HALF: tl.constexpr = HEAD_SIZE // 2
    if IS_ROTARY:  # noqa: SIM102 - a compile-time condition; the next one is not
        if head < NUM_HEADS + NUM_KV_HEADS:
            cosine, sine = angle
            low, high = low * cosine - high * sine, high * cosine + low * sine
    # A single store for all heads: separate stores would each have their own order and an exchange between threads.
    kv_head = (head - NUM_HEADS) % NUM_KV_HEADS
    first, token_of_block = (block * NUM_KV_HEADS + kv_head) * (BLOCK_TOKENS * HEAD_SIZE), position % BLOCK_TOKENS
    if head < NUM_HEADS:
        pointer = queries + ((token * NUM_HEADS + head) * HEAD_SIZE + pair).to(tl.int64)
        half = HALF
    else:
        if head < NUM_HEADS + NUM_KV_HEADS:
            pointer = keys + (first + token_of_block * HEAD_SIZE + pair)
            half = HALF
        else:
            pointer = values + (first + pair * BLOCK_TOKENS + token_of_block)
            half = HALF * BLOCK_TOKENS
    tl.store(pointer, low.to(queries.dtype.element_ty), mask=counts)
    tl.store(pointer + half, high.to(queries.dtype.element_ty), mask=counts)


@triton.jit(do_not_specialize=["table_length"], do_not_specialize_on_alignment=["positions", "table_rows", "tables"])
def norm_heads(
    projected,
    head_norms,
    cosines,
    sines,
    positions,
    table_rows,
    tables,
    queries,
    keys,
    values,
    table_length,
    epsilon,
    IS_ROTARY: tl.constexpr,
    NUM_HEADS: tl.constexpr,
    NUM_KV_HEADS: tl.constexpr,
    HEAD_SIZE: tl.constexpr,
    PADDED_HALF: tl.constexpr,
    BLOCK_TOKENS: tl.constexpr,
    PDL: tl.constexpr,
):
    """Normalise query and key heads, for models that do that, then store them; programs are (token, head).

    Args:
        projected: [tokens, NUM_HEADS + 2 * NUM_KV_HEADS, HEAD_SIZE].
        head_norms: [NUM_HEADS + NUM_KV_HEADS, HEAD_SIZE].
    """
    HALF: tl.constexpr = HEAD_SIZE // 2
    token, head = tl.program_id(0), tl.program_id(1)
    pair = tl.arange(0, PADDED_HALF)[:, None]
    is_there = pair < HALF
    position = tl.load(positions + token)
    angle = load_angles(cosines, sines, position, pair, is_there & (position >= 0), IS_ROTARY, HEAD_SIZE)
    block = load_blocks(table_rows, tables, table_length, token, position, BLOCK_TOKENS)
    if PDL:
        tl.extra.cuda.gdc_launch_dependents()
        tl.extra.cuda.gdc_wait()
    if position >= 0:
        pointer = projected + (token * (NUM_HEADS + 2 * NUM_KV_HEADS) + head) * HEAD_SIZE + pair
        low = tl.load(pointer, mask=is_there, other=0.0).to(tl.float32)
        high = tl.load(pointer + HALF, mask=is_there, other=0.0).to(tl.float32)
        if head < NUM_HEADS + NUM_KV_HEADS:
            factor = tl.rsqrt(tl.sum(low * low + high * high, axis=0) / HEAD_SIZE + epsilon)[None, :]
            low *= factor * tl.load(head_norms + head * HEAD_SIZE + pair, mask=is_there, other=0.0)
            high *= factor * tl.load(head_norms + head * HEAD_SIZE + HALF + pair, mask=is_there, other=0.0)
        numbers, out = (pair, token, position, is_there), (queries, keys, values)
        store_heads(
            low, high, head, numbers, angle, block, out, IS_ROTARY, NUM_HEADS, NUM_KV_HEADS, HEAD_SIZE, BLOCK_TOKENS
        )
