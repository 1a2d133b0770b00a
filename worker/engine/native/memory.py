"""Large pieces of memory for the native code."""

from __future__ import annotations

import contextlib
import ctypes
import mmap

_MADV_POPULATE_WRITE = 23  # Linux 5.14 on


class Memory:
    """Zeroed, page-aligned memory that takes pages from the machine only as they are first written.

    Args:
        size: bytes, > 0.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._map = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if hasattr(mmap, "MADV_HUGEPAGE"):  # fewer address translations while weights stream by
            self._map.madvise(mmap.MADV_HUGEPAGE)
        self._start = ctypes.c_char.from_buffer(self._map)
        self.address = ctypes.addressof(self._start)

    def take(self, size: int) -> None:
        """Take the pages of the first `size` bytes now, where the system can do so; it changes nothing in them."""
        with contextlib.suppress(OSError, ValueError):  # they come as they are written, then
            self._map.madvise(_MADV_POPULATE_WRITE, 0, size)

    def close(self) -> None:
        """Give the memory back. Nothing may use it any more."""
        del self._start
        self._map.close()
