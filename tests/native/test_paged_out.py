"""Tensors whose pages are returned to the system."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from worker.engine.native.paged_out import PagedOutTensors

MIB = 1024 * 1024


def resident_file_bytes() -> int:
    found = re.search(r"RssFile:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


@pytest.fixture
def mapped(tmp_path: Path) -> dict[str, torch.Tensor]:
    """Sixteen tensors of 4 MiB, mapped from a file."""
    save_file({str(n): torch.full((MIB,), float(n)) for n in range(16)}, tmp_path / "model.safetensors")
    return load_file(tmp_path / "model.safetensors")


def test_pages_that_were_read_leave_memory_and_can_be_read_again(mapped: dict[str, torch.Tensor]) -> None:
    tensors = PagedOutTensors(mapped)
    before = resident_file_bytes()
    sums = [tensors[str(n)].sum().item() for n in range(16)]
    assert resident_file_bytes() - before < 24 * MIB
    assert sums == [tensors[str(n)].sum().item() for n in range(16)] == [float(n * MIB) for n in range(16)]


def test_changes_in_memory_are_kept(mapped: dict[str, torch.Tensor]) -> None:
    mapped["3"] += 1
    tensors = PagedOutTensors(mapped)
    assert len([name for name in tensors if tensors[name].numel()]) == len(tensors) == 16
    assert tensors["3"].sum().item() == 4 * MIB


def test_it_has_the_names_of_the_checkpoint(mapped: dict[str, torch.Tensor]) -> None:
    tensors = PagedOutTensors(mapped)
    assert "3" in tensors
    assert "16" not in tensors
