"""Packed adapters in files: they compute the same bits as newly packed ones, and damage is noticed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.native.conftest import make_model, prompt, row
from tests.native.random_adapters import random_adapter
from worker.engine.native.memory import Memory
from worker.engine.native.packed_file import UNUSED_S, PackedLayout, write_packed
from worker.engine.native.runner import NativeRunner

MakeRunner = Callable[..., NativeRunner]


def keep(runner: NativeRunner, model: object, folder: Path) -> Path:
    prepared = runner.prepare_adapter(random_adapter(model, 5))
    runner.keep_adapter(prepared, folder)
    prepared.close()
    [file] = folder.iterdir()
    return file


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_restored_adapter_computes_the_same_bits(
    make_runner: MakeRunner, tmp_path: Path, name: str, precision: str, all_kernels: list[str]
) -> None:
    for kernels in all_kernels:
        model, folder = make_model(name), tmp_path / kernels
        folder.mkdir()
        keep(make_runner(model, precision=precision, kernels=kernels), model, folder)
        runner = make_runner(model, precision=precision, kernels=kernels)
        restored = runner.restore_adapter(folder)
        packed = runner.prepare_adapter(random_adapter(model, 5))
        assert restored is not None
        assert (restored.num_bytes, restored.max_ranks) == (packed.num_bytes, packed.max_ranks)
        runner.add_adapter("restored", restored)
        runner.add_adapter("packed", packed)
        rows = [row(index, prompt(20))._replace(adapter=name) for index, name in enumerate(("restored", "packed"))]
        one, other = runner.forward(rows)
        assert torch.equal(one, other)


def test_a_file_is_private_and_for_one_base_and_format_only(make_runner: MakeRunner, tmp_path: Path) -> None:
    model = make_model("llama")
    file = keep(make_runner(model), model, tmp_path)
    assert file.stat().st_mode & 0o777 == 0o600
    assert make_runner(model).restore_adapter(tmp_path) is not None
    assert make_runner(make_model("gpt2")).restore_adapter(tmp_path) is None
    if (other := make_runner(model, precision="int8"))._lora_format != make_runner(model)._lora_format:
        assert other.restore_adapter(tmp_path) is None


def test_files_that_nobody_has_read_for_long_are_deleted(make_runner: MakeRunner, tmp_path: Path) -> None:
    model = make_model("llama")
    runner, long_ago = make_runner(model), time.time() - UNUSED_S - 1
    file = keep(runner, model, tmp_path)
    lately, unused, partial, foreign = (
        tmp_path / name for name in ("packed-1.bin", "packed-2.bin", ".packed-3.x", "a")
    )
    for other in (lately, unused, partial, foreign):
        other.touch()
    for other in (file, unused, partial, foreign):
        os.utime(other, (long_ago, long_ago))
    restored = runner.restore_adapter(tmp_path)
    assert restored is not None
    restored.close()
    prepared = make_runner(make_model("gpt2")).prepare_adapter(random_adapter(make_model("gpt2"), 5))
    make_runner(make_model("gpt2")).keep_adapter(prepared, tmp_path)
    prepared.close()
    assert {lately, file, foreign} < set(tmp_path.iterdir())
    assert not unused.exists()
    assert not partial.exists()


def test_a_file_that_is_gone_before_it_can_be_deleted_does_no_harm(tmp_path: Path) -> None:
    """Workers that share the folder delete the same files."""
    (tmp_path / "packed-1.bin").symlink_to("deleted meanwhile")
    memory = Memory(8)
    write_packed(tmp_path / "packed-2.bin", PackedLayout([], {}, {}), memory)
    memory.close()
    assert (tmp_path / "packed-2.bin").is_file()


@pytest.mark.parametrize("damage", ["bit", "cut", "longer", "header", "empty"])
def test_a_damaged_file_counts_as_absent(make_runner: MakeRunner, tmp_path: Path, damage: str) -> None:
    model = make_model("llama")
    runner = make_runner(model)
    file = keep(runner, model, tmp_path)
    content = bytearray(file.read_bytes())
    if damage == "bit":
        content[-100] ^= 1
    changed = {"cut": content[:-1], "longer": content + b"x", "header": b"{}" + content, "empty": b""}
    file.write_bytes(changed.get(damage, content))
    assert runner.restore_adapter(tmp_path) is None


def test_a_file_that_cannot_be_written_is_only_logged(
    make_runner: MakeRunner, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = make_model("llama")
    runner = make_runner(model)
    prepared = runner.prepare_adapter(random_adapter(model))
    runner.keep_adapter(prepared, tmp_path / "absent")
    prepared.close()
    assert "was not kept" in caplog.text
