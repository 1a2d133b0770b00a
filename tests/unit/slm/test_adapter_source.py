"""What `slm adapters add` uploads, and what it refuses before the upload."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from slm.adapter_source import BadAdapter, find_adapter
from slm.failures import CommandError
from tests.small_adapter import WEIGHTS, folder


def unpacked(data: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
        return {info.name: archive.extractfile(info).read() for info in archive}  # type: ignore[union-attr]


def test_only_the_files_of_the_adapter_are_packed(tmp_path: Path) -> None:
    path = folder(tmp_path / "support", optimizer_pt=b"x", loss_png=b"x", _hidden_json=b"x", tokenizer_json=b"{}")
    (path / "checkpoint-10").mkdir()
    found = unpacked(b"".join(find_adapter(path).send(lambda _: None)))
    assert found.keys() == {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json"}
    assert found["adapter_model.safetensors"] == WEIGHTS


def test_linked_files_are_packed_as_files(tmp_path: Path) -> None:
    path = folder(tmp_path / "support")
    (path / "adapter_model.safetensors").rename(tmp_path / "blob")
    (path / "adapter_model.safetensors").symlink_to(tmp_path / "blob")
    assert unpacked(b"".join(find_adapter(path).send(lambda _: None)))["adapter_model.safetensors"] == WEIGHTS


def test_the_archive_tells_nothing_about_this_machine(tmp_path: Path) -> None:
    data = b"".join(find_adapter(folder(tmp_path / "support")).send(lambda _: None))
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        facts = {(info.uid, info.gid, info.uname, info.gname, info.mtime, info.mode) for info in archive}
    assert facts == {(0, 0, "", "", 0, 0o644)}


def test_the_progress_adds_up_to_the_size_and_comes_in_steps(tmp_path: Path) -> None:
    source, steps = find_adapter(folder(tmp_path / "support")), []
    sent = [len(piece) for piece in source.send(steps.append)]
    assert sum(steps) == source.num_bytes > len(WEIGHTS)
    assert max(sent) < len(WEIGHTS) / 2


def test_an_archive_is_sent_as_it_is(tmp_path: Path) -> None:
    data = b"".join(find_adapter(folder(tmp_path / "support")).send(lambda _: None))
    file = tmp_path / "my.lora.tar.gz"
    file.write_bytes(data)
    source = find_adapter(file)
    assert (source.name, source.num_bytes, source.content_type) == ("my.lora", len(data), "application/gzip")
    assert b"".join(source.send(lambda _: None)) == data


def test_a_zip_archive_with_one_folder_is_accepted(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("support/adapter_config.json", "{}")
    source = find_adapter(tmp_path / "a.zip")
    assert (source.name, source.content_type) == ("a", "application/zip")


def test_a_file_that_becomes_shorter_ends_the_upload(tmp_path: Path) -> None:
    path = folder(tmp_path / "support")
    pieces = find_adapter(path).send(lambda _: None)
    assert len(next(pieces)) < 100 < len(next(pieces)), "the first piece is gzip's header, the second has weights"
    os.truncate(path / "adapter_model.safetensors", 2_000_000)
    with pytest.raises(CommandError, match="became shorter"):
        list(pieces)


def refusal(path: Path) -> str:
    with pytest.raises(BadAdapter) as caught:
        find_adapter(path)
    assert caught.value.exit_status == 2
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    path = folder(tmp_path / "support")
    (path / "adapter_model.safetensors").rename(path / "adapter_model.bin")
    assert "pickled adapter_model.bin: load it with peft and save it again" in refusal(path)
    (path / "adapter_model.bin").unlink()
    assert refusal(path).endswith("is not a PEFT folder: it has no adapter_model.safetensors")
    (path / "adapter_config.json").unlink()
    assert refusal(path).endswith("it has no adapter_config.json and adapter_model.safetensors")
    folder(path / "checkpoint-3")
    assert refusal(path).endswith(f"; {path / 'checkpoint-3'} has one")


def test_a_whole_model_is_recognised(tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).touch()
    assert "SLM_BASE_MODEL" in refusal(tmp_path)


@pytest.mark.parametrize("config", [b"{", b"\xff", b"[]", b"{}", b'{"peft_type": "IA3"}'])
def test_a_config_of_something_else_is_refused(tmp_path: Path, config: bytes) -> None:
    path = folder(tmp_path / "support")
    (path / "adapter_config.json").write_bytes(config)
    assert "adapter_config.json" in refusal(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    whole = b"".join(find_adapter(folder(tmp_path / "support")).send(lambda _: None))
    with zipfile.ZipFile(tmp_path / "deep.zip", "w") as archive:
        archive.writestr("a/b/adapter_config.json", "{}")
    for name, content in (("notes.txt", b"hello"), ("torn.tgz", whole[:-200_000]), ("empty", b"")):
        (tmp_path / name).write_bytes(content)
        assert name in refusal(tmp_path / name)
    assert "at its root or in a folder" in refusal(tmp_path / "deep.zip")
    assert "No such file" in refusal(tmp_path / "missing")
