"""Copies between host and device without waiting.

A copy from or to ordinary memory waits until the device has finished all earlier work. A CUDA device accesses
page-locked memory by itself, in the order of its work; torch does not reuse such memory before that.
"""

from __future__ import annotations

import torch
from torch import Tensor


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Copy a host tensor to the device; return the same tensor if the device is the host."""
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values.to(device)


class ToHost:
    """Copies tensors to the host asynchronously.

    Args:
        tensors: all on one device. The copies reflect the work that was started before this call, as long as later work
            does not write to the tensors.
    """

    def __init__(self, *tensors: Tensor) -> None:
        self._tensors = tensors
        self._event: torch.cuda.Event | None = None
        if tensors[0].is_cuda:
            self._tensors = tuple(_page_locked(tensor) for tensor in tensors)
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._event.record()

    def fetch(self) -> tuple[Tensor, ...]:
        """Wait for the copies, but not for work that was started after them."""
        if self._event is not None:
            self._event.synchronize()
        return self._tensors


def _page_locked(tensor: Tensor) -> Tensor:
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor, non_blocking=True)
