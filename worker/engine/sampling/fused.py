"""Samples one token for each row of the logits in one launch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
from torch import Tensor

from worker.engine.device.fused.kernels.sampling import choose
from worker.engine.device.transfers import to_device
from worker.engine.sampling.scored_tokens import NO_TOKEN
from worker.engine.sampling.settings import MIN_TEMPERATURE, RandomSampling

BLOCK = 8192  # logits that a program loads at once
NUM_WARPS = 16
NUM_SETTINGS = 5  # temperature (0: most probable), top_k, top_p, min_p, point


def pick(logits: Tensor, samplings: Sequence[RandomSampling | None]) -> Tensor:
    """Return each row's token, int64 [rows]; NO_TOKEN if its largest logit is not finite.

    Args:
        logits: [rows, vocab].
        samplings: how to sample each row's token; None: take the most probable one.
    """
    num_rows, vocab_size = logits.shape
    tokens = torch.empty(num_rows, dtype=torch.int64, device=logits.device)
    is_random = any(sampling is not None for sampling in samplings)
    choose[(num_rows,)](
        logits,
        _all_settings(samplings, logits.device) if is_random else tokens,
        tokens,
        logits.stride(0),
        VOCAB_SIZE=vocab_size,
        BLOCK=BLOCK,
        NUM_BLOCKS=triton.next_power_of_2(triton.cdiv(vocab_size, BLOCK)),
        NUM_SETTINGS=NUM_SETTINGS,
        NO_TOKEN=NO_TOKEN,
        IS_RANDOM=is_random,
        num_warps=NUM_WARPS,
    )
    return tokens


def _all_settings(samplings: Sequence[RandomSampling | None], device: torch.device) -> Tensor:
    """Return the settings [rows, NUM_SETTINGS], in 64 bits because the points need that precision."""
    return to_device(torch.tensor([_settings(sampling) for sampling in samplings], dtype=torch.float64), device)


def _settings(sampling: RandomSampling | None) -> tuple[float, ...]:
    if sampling is None:
        return (0.0,) * NUM_SETTINGS
    temperature = max(sampling.temperature, MIN_TEMPERATURE)
    return temperature, float(sampling.top_k), sampling.top_p, sampling.min_p, sampling.point
