"""Where torch is not asked for accelerators: only where it would find none for sure."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import pytest

from worker.engine.loading import accelerators
from worker.engine.loading.accelerators import may_have_accelerator


class Machine:
    """A Linux machine with these libraries of drivers, and with these device files."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, torch: str, found: set[str]) -> None:
        self._found = found
        monkeypatch.setattr(sys, "platform", "linux")
        monkeypatch.setattr(accelerators, "version", lambda _: torch)
        monkeypatch.setattr(ctypes, "CDLL", self._load)
        monkeypatch.setattr(Path, "exists", lambda path: str(path) in found)

    def _load(self, name: str) -> object:
        if name not in self._found:
            raise OSError(f"{name}: cannot open shared object file")
        return object()


@pytest.mark.parametrize(
    ("torch", "found", "expected"),
    [
        ("2.13.0", set(), False),
        ("2.13.0", {"libcuda.so.1", "/dev/nvidiactl"}, True),
        ("2.13.0", {"libcuda.so.1"}, True),
        ("2.13.0+rocm7", {"/dev/kfd"}, True),
        ("2.13.0+cpu", {"libcuda.so.1", "/dev/nvidiactl"}, False),
    ],
    ids=["no driver", "NVIDIA", "NVIDIA before its first use", "AMD", "a torch for CPUs"],
)
def test_torch_is_asked_where_there_is_a_driver(
    monkeypatch: pytest.MonkeyPatch, torch: str, found: set[str], expected: bool
) -> None:
    Machine(monkeypatch, torch, found)
    assert may_have_accelerator() is expected


def test_torch_is_asked_on_other_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert may_have_accelerator()
