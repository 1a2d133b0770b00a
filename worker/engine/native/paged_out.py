"""Frees the memory of a checkpoint's pages after they have been read."""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Iterator, Mapping

from torch import Tensor

_MADV_PAGEOUT = 21  # since Linux 5.4; without swap, modified and anonymous pages stay in memory


class PagedOutTensors(Mapping[str, Tensor]):
    """Tensors that are read in sequence: reading the next tensor pages out the previous one.

    The tensors can be read again from the file. So a model can be packed without being in memory twice. If the system
    does not support this, nothing happens.

    Args:
        tensors: may be mapped from a file.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = tensors
        self._last: Tensor | None = None

    def __getitem__(self, name: str) -> Tensor:
        tensor = self._tensors[name]
        if self._last is not None and self._last is not tensor:
            _page_out(self._last)
        self._last = tensor
        return tensor

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def _page_out(tensor: Tensor) -> None:
    """Page out the whole pages within the tensor. Errors are ignored."""
    if not sys.platform.startswith("linux") or tensor.device.type != "cpu":
        return
    size = mmap.PAGESIZE
    begin = -(-tensor.data_ptr() // size) * size
    end = (tensor.data_ptr() + tensor.nbytes) // size * size
    if begin < end:
        ctypes.CDLL(None).madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), _MADV_PAGEOUT)
