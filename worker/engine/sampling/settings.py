"""The sampling settings of one row, and its random number. No torch."""

from __future__ import annotations

from dataclasses import dataclass

MIN_TEMPERATURE = 2.0**-100  # lower values are equally greedy, and 32-bit floats can still be divided by this
_MASK_64 = (1 << 64) - 1
_GOLDEN_GAMMA = 0x9E3779B97F4A7C15


@dataclass(frozen=True, slots=True)
class RandomSampling:
    """The sampling settings of one row."""

    temperature: float  # above 0
    top_k: int  # 0: off
    top_p: float  # 1: off
    min_p: float  # 0: off
    point: float  # in [0, 1): where to cut the cumulative distribution

    @property
    def has_filter(self) -> bool:
        """Whether a filter may remove tokens."""
        return self.top_k > 0 or self.top_p < 1.0 or self.min_p > 0.0


def random_at(seed: int, index: int) -> float:
    """Return a number in [0, 1) that depends only on the seed and the token's index: SplitMix64 as a counter-based RNG.

    Since there is no generator state, the number is the same in any batch, worker and attempt.
    """
    state = _mix(seed & _MASK_64) + (index + 1) * _GOLDEN_GAMMA
    return (_mix(state & _MASK_64) >> 11) * 2.0**-53


def _mix(value: int) -> int:
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK_64
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK_64
    return value ^ (value >> 31)
