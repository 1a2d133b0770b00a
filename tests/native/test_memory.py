from __future__ import annotations

import ctypes
import mmap
import platform

import psutil
import pytest

from worker.engine.native.memory import Memory

MIB = 1 << 20


def resident() -> int:
    return psutil.Process().memory_info().rss


def has_populate() -> bool:
    release = platform.release().split(".")
    return platform.system() == "Linux" and (int(release[0]), int(release[1])) >= (5, 14)


@pytest.mark.skipif(not has_populate(), reason="this system takes pages only as they are written")
def test_memory_is_used_when_requested_and_not_before() -> None:
    before = resident()
    memory = Memory(256 * MIB)
    assert resident() - before < 16 * MIB
    memory.populate(64 * MIB)
    assert 60 * MIB < resident() - before < 96 * MIB
    memory.close()
    assert resident() - before < 16 * MIB


def test_new_memory_is_zero_and_keeps_its_contents() -> None:
    memory = Memory(4 * MIB)
    memory.populate(2 * MIB)
    assert ctypes.string_at(memory.address, 4 * MIB) == bytes(4 * MIB)
    ctypes.memset(memory.address, 7, MIB)
    memory.populate(4 * MIB)
    assert ctypes.string_at(memory.address, MIB) == b"\x07" * MIB
    memory.close()


@pytest.mark.parametrize(
    ("size", "mapped"), [(5_520_000, 6 * MIB), (3 * MIB, 3 * MIB)], ids=["nearly whole", "half empty"]
)
def test_memory_that_nearly_fills_large_pages_is_mapped_in_whole_ones(
    size: int, mapped: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths: list[int] = []
    real = mmap.mmap

    def recorded(file: int, length: int, *, flags: int) -> mmap.mmap:
        lengths.append(length)
        return real(file, length, flags=flags)

    monkeypatch.setattr(mmap, "mmap", recorded)
    memory = Memory(size)
    assert lengths == [mapped]
    assert memory.view().nbytes == memory.size == size
    memory.close()


def test_more_memory_than_there_is_cannot_be_requested() -> None:
    memory = Memory(MIB)
    memory.populate(1 << 40)
    memory.close()
