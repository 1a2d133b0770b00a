"""What the four warps of a program have computed, put together.

Splitting a tensor along its last dimension has each thread get the numbers that it combines, in one exchange; Triton's
own reductions take several. The order is one and the same for all shapes.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def four(values):
    """[..., 2, 2] -> four tensors [...]."""
    first, second = tl.split(values)
    a, c = tl.split(first)
    b, d = tl.split(second)
    return a, b, c, d


@triton.jit
def sum_of_four(values):
    """[..., 2, 2] -> [...]."""
    a, b, c, d = four(values)
    return (a + b) + (c + d)


@triton.jit
def sum_of_warps(values, SIZE: tl.constexpr):
    """[4, SIZE] -> [SIZE]."""
    return sum_of_four(tl.permute(tl.reshape(values, (2, 2, SIZE)), (2, 0, 1)))
