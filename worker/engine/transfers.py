"""Copies between the host and a device that keep nobody waiting.

A copy from or to ordinary memory waits until the device has done all that was started before. Page-locked memory a CUDA
device reads and writes by itself, when its turn comes; torch keeps such memory from being used again before that.
"""

from __future__ import annotations

import torch
from torch import Tensor


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on the device; the same one where that is the host."""
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values.to(device)


class ToHost:
    """Copies of tensors on their way to the host.

    Args:
        tensors: all on one device. What was started before this call has its effect on the copies, and nothing else
            has, as long as what is started later does not write to them.
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
