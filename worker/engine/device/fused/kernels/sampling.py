"""Picks one token for each row of the logits: the most probable one, or a sample with the filters of `random_sampling`.

The filters are thresholds on the logits, found by bisection over their bits: 32 passes over a row's logits, which are
in the L2 cache, instead of a sort. All tokens that tie at a threshold are kept. Sums are computed in 64 bits.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _load(logits, block, BLOCK: tl.constexpr, VOCAB_SIZE: tl.constexpr):
    token = block * BLOCK + tl.arange(0, BLOCK)
    values = tl.load(logits + token, mask=token < VOCAB_SIZE, other=float("-inf")).to(tl.float32)
    return tl.where(values == 0.0, 0.0, values)  # -0.0 and 0.0 tie, but their bits do not


@triton.jit
def _larger_or_earlier(first, first_index, second, second_index):
    is_first = (first > second) | ((first == second) & (first_index < second_index))
    return tl.where(is_first, first, second), tl.where(is_first, first_index, second_index)


@triton.jit
def _key(values):
    """Return an integer that sorts like the number."""
    bits = values.to(tl.int32, bitcast=True)
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


@triton.jit
def _weights(values, best, temperature):
    """Return each token's probability relative to the most probable token."""
    return tl.exp((values - best) / temperature)


@triton.jit
def _top_k_threshold(logits, best, top_k, BLOCK: tl.constexpr, VOCAB_SIZE: tl.constexpr):
    """Return a key that the top_k largest tokens reach, and otherwise only tokens that tie with the last of them."""
    low, high = tl.full((), -2147483648, tl.int64), _key(best).to(tl.int64)
    while low < high:
        middle = low + (high - low + 1) // 2
        count = 0
        for block in range(tl.cdiv(VOCAB_SIZE, BLOCK)):
            count += tl.sum((_key(_load(logits, block, BLOCK, VOCAB_SIZE)) >= middle).to(tl.int32), axis=0)
        if count >= top_k:
            low = middle
            if count == top_k:
                high = middle
        else:
            high = middle - 1
    return low


@triton.jit
def _sum_from(logits, least, best, temperature, BLOCK: tl.constexpr, VOCAB_SIZE: tl.constexpr):
    """Return the sum of the weights of the tokens that reach a key."""
    total = tl.zeros((), tl.float64)
    for block in range(tl.cdiv(VOCAB_SIZE, BLOCK)):
        values = _load(logits, block, BLOCK, VOCAB_SIZE)
        weights = tl.where(_key(values) >= least, _weights(values, best, temperature), 0.0)
        total += tl.sum(weights.to(tl.float64), axis=0)
    return total


@triton.jit
def _top_p_threshold(logits, least, best, temperature, top_p, BLOCK: tl.constexpr, VOCAB_SIZE: tl.constexpr):
    """Return the largest key for which the tokens that reach it have the share top_p of those that reach `least`."""
    needed = top_p * _sum_from(logits, least, best, temperature, BLOCK, VOCAB_SIZE)
    low, high = least, _key(best).to(tl.int64)
    while low < high:
        middle = low + (high - low + 1) // 2
        if _sum_from(logits, middle, best, temperature, BLOCK, VOCAB_SIZE) >= needed:
            low = middle
        else:
            high = middle - 1
    return low


@triton.jit
def _kept_weights(logits, block, least, min_p, best, temperature, BLOCK: tl.constexpr, VOCAB_SIZE: tl.constexpr):
    """Return the weights of a block's tokens, in 64 bits; 0 for tokens that are filtered out."""
    values = _load(logits, block, BLOCK, VOCAB_SIZE)
    weights = _weights(values, best, temperature)
    return tl.where((_key(values) >= least) & (weights >= min_p), weights, 0.0).to(tl.float64)


@triton.jit
def _drawn(
    logits,
    settings,
    best,
    temperature,
    VOCAB_SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
    NUM_BLOCKS: tl.constexpr,
):
    """Return the token at which the row's point cuts the filtered distribution."""
    top_k, top_p = tl.load(settings + 1).to(tl.int32), tl.load(settings + 2)
    min_p, point = tl.load(settings + 3).to(tl.float32), tl.load(settings + 4)
    least = tl.full((), -2147483648, tl.int64)
    if top_k > 0:
        least = _top_k_threshold(logits, best, top_k, BLOCK, VOCAB_SIZE)
    if top_p < 1.0:
        least = _top_p_threshold(logits, least, best, temperature, top_p, BLOCK, VOCAB_SIZE)
    index = tl.arange(0, NUM_BLOCKS)
    sums = tl.zeros((NUM_BLOCKS,), tl.float64)
    for block in range(tl.cdiv(VOCAB_SIZE, BLOCK)):
        weights = _kept_weights(logits, block, least, min_p, best, temperature, BLOCK, VOCAB_SIZE)
        sums = tl.where(index == block, tl.sum(weights, axis=0), sums)
    target = point * tl.sum(sums, axis=0)
    found = tl.sum((tl.cumsum(sums, axis=0) <= target).to(tl.int32), axis=0)
    last = tl.max(tl.where(sums > 0.0, index, 0), axis=0)  # rounding may have moved the target past it
    found = tl.minimum(found, last)
    target -= tl.sum(tl.where(index < found, sums, 0.0), axis=0)
    weights = _kept_weights(logits, found, least, min_p, best, temperature, BLOCK, VOCAB_SIZE)
    within = tl.arange(0, BLOCK)
    offset = tl.sum((tl.cumsum(weights, axis=0) <= target).to(tl.int32), axis=0)
    offset = tl.minimum(offset, tl.max(tl.where(weights > 0.0, within, 0), axis=0))
    return found * BLOCK + offset


@triton.jit(do_not_specialize=["stride"])
def choose(
    logits,
    settings,
    tokens_out,
    stride,
    VOCAB_SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
    NUM_BLOCKS: tl.constexpr,
    NUM_SETTINGS: tl.constexpr,
    NO_TOKEN: tl.constexpr,
    IS_RANDOM: tl.constexpr,
):
    """Pick the token of one row."""
    row = tl.program_id(0)
    logits += row.to(tl.int64) * stride
    largest, tokens = _load(logits, 0, BLOCK, VOCAB_SIZE), tl.arange(0, BLOCK)
    is_nan = largest != largest
    for block in range(1, tl.cdiv(VOCAB_SIZE, BLOCK)):
        values = _load(logits, block, BLOCK, VOCAB_SIZE)
        is_nan |= values != values
        tokens = tl.where(values > largest, block * BLOCK + tl.arange(0, BLOCK), tokens)
        largest = tl.maximum(largest, values)
    best, token = tl.reduce((largest, tokens), 0, _larger_or_earlier)
    is_usable = (tl.max(is_nan.to(tl.int32), axis=0) == 0) & (tl.abs(best) < float("inf"))
    if IS_RANDOM:
        settings += row * NUM_SETTINGS
        temperature = tl.load(settings).to(tl.float32)
        if (temperature > 0.0) & is_usable:
            token = _drawn(logits, settings, best, temperature, VOCAB_SIZE, BLOCK, NUM_BLOCKS)
    tl.store(tokens_out + row, tl.where(is_usable, token, NO_TOKEN).to(tl.int64))
