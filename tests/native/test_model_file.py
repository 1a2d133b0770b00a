"""Prepared models in files: they compute the same bits as newly packed ones, and damage is noticed."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine_config import runner_config
from tests.native.conftest import TorchRunner, make_model, prompt, row
from worker.engine.native import model_file
from worker.engine.native.model_file import map_model, write_model
from worker.engine.native.packed_model import restored
from worker.engine.native.runner import NativeRunner

FACTS = {"name": "one"}
PARTS = [b"a" * 100, b"", b"b" * 64]


def write(file: Path, facts: dict[str, Any] | None = None) -> Path:
    write_model(file, facts or FACTS, [memoryview(part) for part in PARTS])
    return file


def keep(runner: NativeRunner, file: Path) -> None:
    write_model(file, runner.model.to_facts(), [part.view() for part in runner.model.parts])


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("name", ["llama, tied head", "qwen2", "qwen3", "gpt2"])
def test_a_restored_model_computes_the_same_bits_with_every_kernel_set(
    make_runner: Callable[..., NativeRunner], tmp_path: Path, name: str, precision: str, all_kernels: list[str]
) -> None:
    for kernels in all_kernels:
        packed = make_runner(make_model(name), precision=precision, kernels=kernels)
        keep(packed, file := tmp_path / kernels)
        mapped = map_model(file)
        assert mapped is not None
        model = restored(mapped, mapped.facts)
        assert model.shapes == packed.model.shapes
        config = runner_config(max_num_seqs=4, context_length=packed.context_length)
        runner = TorchRunner(packed.code, model, config)
        one, other = (one.forward([row(0, prompt(70)), row(1, prompt(20))]) for one in (packed, runner))
        assert torch.equal(one, other)
        runner.close()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_runners_over_one_file_share_its_pages(make_runner: Callable[..., NativeRunner], tmp_path: Path) -> None:
    keep(make_runner(make_model("llama")), file := tmp_path / "model")
    mapped = map_model(file)
    assert mapped is not None
    maps = [line for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith(str(file))]
    assert [line.split()[1] for line in maps] == ["r--s"], "read-only, and shared"
    mapped.close()


def test_a_file_is_private_and_has_what_was_written(tmp_path: Path) -> None:
    file = write(tmp_path / "model")
    mapped = map_model(file)
    assert mapped is not None
    assert mapped.facts == FACTS
    assert mapped.address % 64 == 0
    assert file.read_bytes().endswith(PARTS[0] + bytes(28) + PARTS[2])
    assert file.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in tmp_path.iterdir()] == ["model"]
    mapped.close()


@pytest.mark.parametrize("damage", ["bit", "cut", "longer", "header", "empty", "facts"])
def test_a_damaged_file_counts_as_absent_and_is_logged(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = write(tmp_path / "model")
    content = bytearray(file.read_bytes())
    if damage == "bit":
        content[-30] ^= 1
    changed = {
        "cut": content[:-1],
        "longer": content + b"x",
        "header": b"{}" + content,
        "empty": b"",
        "facts": content.replace(b"one", b"two", 1),
    }
    file.write_bytes(changed.get(damage, content))
    assert map_model(file) is None
    assert "is damaged and is made again" in caplog.text


def test_a_missing_file_is_not_worth_a_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert map_model(tmp_path / "absent") is None
    assert not caplog.records


def test_files_that_were_not_used_for_long_and_abandoned_ones_are_deleted(tmp_path: Path) -> None:
    files = [model_file.model_file(tmp_path, str(index)) for index in range(model_file.MAX_FILES + 1)]
    for age, file in enumerate(files[:-1]):
        write(file)
        os.utime(file, (10_000 + age, 10_000 + age))
    (abandoned := tmp_path / f".{files[0].name}.killed").touch()
    os.utime(abandoned, (0, 0))
    (begun := tmp_path / f".{files[1].name}.begun").touch()
    (other := tmp_path / "slm-native-1.so").touch()
    mapped = map_model(files[0])  # so it is not the oldest any more
    assert mapped is not None
    mapped.close()

    write(files[-1])

    assert set(tmp_path.iterdir()) == {*files, other, begun} - {files[1]}


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_self: Path, _target: Path) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="no space"):
        write(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []
