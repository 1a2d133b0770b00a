"""One token for each row of the logits in one launch: most probable or random, with the filters of `random_choice`.

The filters are thresholds on the logits, found by bisection over their bits: 32 looks at a row's logits, which are in the
second-level cache, instead of sorting them. Tokens that tie at a threshold all stay. Sums are taken in 64 bits.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from worker.engine.random_choice import LEAST_TEMPERATURE, RandomChoice
from worker.engine.transfers import to_device

BLOCK = 8192  # logits at once
NUM_WARPS = 16
NUM_SETTINGS = 5  # temperature (0: most probable), top_k, top_p, min_p, point


def pick(logits: Tensor, choices: Sequence[RandomChoice | None]) -> tuple[Tensor, Tensor]:
    """Each row's largest logit and its token, both [rows].

    Args:
        logits: [rows, vocab], in 32 bits.
        choices: how each row's token is drawn; None: the most probable one.
    """
    num_rows, vocab_size = logits.shape
    best = torch.empty(num_rows, dtype=torch.float32, device=logits.device)
    tokens = torch.empty(num_rows, dtype=torch.int64, device=logits.device)
    choose[(num_rows,)](
        logits,
        to_device(torch.tensor([_settings(choice) for choice in choices], dtype=torch.float64), logits.device),
        best,
        tokens,
        logits.stride(0),
        VOCAB_SIZE=vocab_size,
        BLOCK=BLOCK,
        NUM_BLOCKS=triton.next_power_of_2(triton.cdiv(vocab_size, BLOCK)),
        NUM_SETTINGS=NUM_SETTINGS,
        num_warps=NUM_WARPS,
    )
    return best, tokens


def _settings(choice: RandomChoice | None) -> tuple[float, ...]:
    if choice is None:
        return (0.0,) * NUM_SETTINGS
    temperature = max(choice.temperature, LEAST_TEMPERATURE)
    return temperature, float(choice.top_k), choice.top_p, choice.min_p, choice.point


@triton.jit
def _load(logits, block, BLOCK: tl.constexpr, VOCAB_SIZE: tl.constexpr):
    token = block * BLOCK + tl.arange(0, BLOCK)
    return tl.load(logits + token, mask=token < VOCAB_SIZE, other=float("-inf")).to(tl.float32)


@triton.jit
def _larger_or_earlier(first, first_place, second, second_place):
    is_first = (first > second) | ((first == second) & (first_place < second_place))
    return tl.where(is_first, first, second), tl.where(is_first, first_place, second_place)


@triton.jit
def _key(values):
    """An integer that orders as the number does."""
    bits = values.to(tl.int32, bitcast=True)
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


@triton.jit
def _weights(values, best, temperature):
    """Each token's probability as a share of the most probable one's."""
    return tl.exp((values - best) / temperature)


@triton.jit
def _top_k_threshold(logits, best, top_k, BLOCK: tl.constexpr, VOCAB_SIZE: tl.constexpr):
    """A key that at least top_k tokens reach, and no more than those and what ties with the last of them."""
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
    """The sum of the weights of the tokens that reach a key."""
    total = tl.zeros((), tl.float64)
    for block in range(tl.cdiv(VOCAB_SIZE, BLOCK)):
        values = _load(logits, block, BLOCK, VOCAB_SIZE)
        weights = tl.where(_key(values) >= least, _weights(values, best, temperature), 0.0)
        total += tl.sum(weights.to(tl.float64), axis=0)
    return total


@triton.jit
def _top_p_threshold(logits, least, best, temperature, top_p, BLOCK: tl.constexpr, VOCAB_SIZE: tl.constexpr):
    """The largest key whose tokens have the share top_p of those that reach `least`."""
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
    """The weights of a block's tokens, in 64 bits; 0 for those that may not come."""
    values = _load(logits, block, BLOCK, VOCAB_SIZE)
    weights = _weights(values, best, temperature)
    return tl.where((_key(values) >= least) & (weights >= min_p), weights, 0.0).to(tl.float64)


@triton.jit(do_not_specialize=["stride"])
def choose(
    logits,
    settings,
    best_out,
    tokens_out,
    stride,
    VOCAB_SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
    NUM_BLOCKS: tl.constexpr,
    NUM_SETTINGS: tl.constexpr,
):
    """One row."""
    row = tl.program_id(0)
    logits += row.to(tl.int64) * stride
    settings += row * NUM_SETTINGS
    temperature = tl.load(settings).to(tl.float32)
    largest, places = _load(logits, 0, BLOCK, VOCAB_SIZE), tl.arange(0, BLOCK)
    is_nan = largest != largest
    for block in range(1, tl.cdiv(VOCAB_SIZE, BLOCK)):
        values = _load(logits, block, BLOCK, VOCAB_SIZE)
        is_nan |= values != values
        places = tl.where(values > largest, block * BLOCK + tl.arange(0, BLOCK), places)
        largest = tl.maximum(largest, values)
    best, token = tl.reduce((largest, places), 0, _larger_or_earlier)
    is_broken = tl.max(is_nan.to(tl.int32), axis=0)
    tl.store(best_out + row, tl.where(is_broken > 0, float("nan"), best))
    if (temperature > 0.0) & (is_broken == 0):
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
        last = tl.max(tl.where(sums > 0.0, index, 0), axis=0)  # rounding may have lifted the target beyond it
        found = tl.minimum(found, last)
        target -= tl.sum(tl.where(index < found, sums, 0.0), axis=0)
        weights = _kept_weights(logits, found, least, min_p, best, temperature, BLOCK, VOCAB_SIZE)
        within = tl.arange(0, BLOCK)
        place = tl.sum((tl.cumsum(weights, axis=0) <= target).to(tl.int32), axis=0)
        place = tl.minimum(place, tl.max(tl.where(weights > 0.0, within, 0), axis=0))
        token = found * BLOCK + place
    tl.store(tokens_out + row, token.to(tl.int64))
