"""Random numbers that need no generator."""

from __future__ import annotations

_MASK_64 = (1 << 64) - 1
_GOLDEN_GAMMA = 0x9E3779B97F4A7C15


def uniform(seed: int, index: int) -> float:
    """A number in [0, 1) that depends on the seed and the token's index alone (SplitMix64, read at any position).

    There is no generator whose state could be lost: the draw is the same in any batch, on any worker, in any attempt.
    """
    state = _mix(seed & _MASK_64) + (index + 1) * _GOLDEN_GAMMA
    return (_mix(state & _MASK_64) >> 11) * 2.0**-53


def _mix(value: int) -> int:
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK_64
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK_64
    return value ^ (value >> 31)
