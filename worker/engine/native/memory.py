"""Allocates large memory regions for the native code."""

from __future__ import annotations

import contextlib
import ctypes
import mmap

_MADV_POPULATE_WRITE = 23  # since Linux 5.14
_LARGE_PAGE = 2 << 20  # bytes; Linux aligns a mapping to large pages only if it consists of whole ones


class Memory:
    """Zeroed, page-aligned memory; the system provides each page when it is first written.

    Args:
        size: bytes, > 0.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._map = mmap.mmap(-1, _mapped_size(size), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        if hasattr(mmap, "MADV_HUGEPAGE"):  # fewer TLB misses while weights are streamed
            self._map.madvise(mmap.MADV_HUGEPAGE)
        self._start = ctypes.c_char.from_buffer(self._map)
        self.address = ctypes.addressof(self._start)

    def populate(self, size: int) -> None:
        """Populate the pages of the first `size` bytes now, if the system can; their content does not change."""
        with contextlib.suppress(OSError, ValueError):  # the pages are then populated on first write
            self._map.madvise(_MADV_POPULATE_WRITE, 0, size)

    def view(self) -> memoryview:
        """Return the memory as bytes; the view must be gone before `close`."""
        return memoryview(self._map)[: self.size]

    def close(self) -> None:
        """Free the memory. It must not be used afterwards."""
        del self._start
        self._map.close()


def _mapped_size(size: int) -> int:
    """Return how many bytes to map: whole large pages, unless more than an eighth of them would be unused."""
    whole = -(-size // _LARGE_PAGE) * _LARGE_PAGE
    return whole if 8 * (whole - size) <= whole else size
