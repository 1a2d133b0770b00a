"""Combines the results of the four warps of a program.

Splitting a tensor along its last dimension gives each thread the numbers that it combines in one exchange; Triton's
own reductions need several. The order is the same for all shapes.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def four(values):
    """Split [..., 2, 2] into four tensors [...]."""
    first, second = tl.split(values)
    a, c = tl.split(first)
    b, d = tl.split(second)
    return a, b, c, d


@triton.jit
def sum_of_four(values):
    """Sum [..., 2, 2] to [...]."""
    a, b, c, d = four(values)
    return (a + b) + (c + d)


@triton.jit
def sum_of_warps(values, SIZE: tl.constexpr):
    """Sum [4, SIZE] to [SIZE]."""
    return sum_of_four(tl.permute(tl.reshape(values, (2, 2, SIZE)), (2, 0, 1)))
