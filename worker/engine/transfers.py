"""Copies between the host and a device that keep nobody waiting.

A copy from ordinary memory waits until the device has done all that was started before. A CUDA device reads and writes
page-locked memory by itself, when its turn comes; torch keeps such memory from being used again before that.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def to_device(values: Sequence[object], dtype: torch.dtype, device: torch.device) -> Tensor:
    """A tensor of the values, which may be nested, on the device."""
    if device.type != "cuda":
        return torch.tensor(values, dtype=dtype, device=device)
    return torch.tensor(values, dtype=dtype, pin_memory=True).to(device, non_blocking=True)


class ToHost:
    """Copies of tensors on their way to the host. The tensors must not be written any more, save by later work.

    Args:
        tensors: all of one device; whatever was started before this call has its effect on the copies.
    """

    def __init__(self, *tensors: Tensor) -> None:
        self._tensors = tensors
        self._event: torch.cuda.Event | None = None
        if tensors[0].is_cuda:
            self._tensors = tuple(_page_locked(tensor) for tensor in tensors)
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._event.record()

    def fetch(self) -> tuple[Tensor, ...]:
        """Wait for the copies, and for nothing that was started after them."""
        if self._event is not None:
            self._event.synchronize()
        return self._tensors


def _page_locked(tensor: Tensor) -> Tensor:
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor, non_blocking=True)
