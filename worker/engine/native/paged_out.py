"""Keeps a checkpoint's pages out of memory once they have been read."""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Iterator, Mapping

from torch import Tensor

_MADV_PAGEOUT = 21  # Linux 5.4 on; what is changed or of no file stays as it is, where there is no swap


class PagedOutTensors(Mapping[str, Tensor]):
    """Tensors that are read one after the other: the pages of one go back to the system when the next one is read.

    They can be read again, from the file. So a model can be packed without being in memory twice. Where the system
    cannot do this, nothing happens.

    Args:
        tensors: mapped from a file, or not.
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
    """Give back the whole pages within the tensor. The system's refusal does not matter."""
    if not sys.platform.startswith("linux") or tensor.device.type != "cpu":
        return
    size = mmap.PAGESIZE
    begin = -(-tensor.data_ptr() // size) * size
    end = (tensor.data_ptr() + tensor.nbytes) // size * size
    if begin < end:
        ctypes.CDLL(None).madvise(ctypes.c_void_p(begin), ctypes.c_size_t(end - begin), _MADV_PAGEOUT)
