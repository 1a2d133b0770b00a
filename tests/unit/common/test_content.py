"""One hash of the contents of a model's files."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

import pytest

from common.content import ContentHashes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "model"
    made.mkdir()
    (made / "config.json").write_text("{}")
    (made / "model.safetensors").write_bytes(b"weights")
    return made


def test_the_hash_covers_names_and_contents_in_order(folder: Path) -> None:
    lines = (f"{hashlib.sha256(file.read_bytes()).hexdigest()} {file.name}\n" for file in sorted(folder.iterdir()))

    assert ContentHashes().of_folder(folder) == hashlib.sha256("".join(lines).encode()).hexdigest()


def test_the_same_files_elsewhere_have_the_same_hash(folder: Path, tmp_path: Path) -> None:
    hashes = ContentHashes()
    before = hashes.of_folder(folder)
    folder.rename(tmp_path / "other")
    os.utime(tmp_path / "other" / "config.json", (1, 1))

    assert hashes.of_folder(tmp_path / "other") == before


@pytest.mark.parametrize("name", ["README.md", "loss.png", "training_args.bin", "checkpoints"])
def test_files_that_no_model_is_loaded_from_do_not_count(folder: Path, name: str) -> None:
    hashes = ContentHashes()
    before = hashes.of_folder(folder)
    (folder / name).mkdir() if name == "checkpoints" else (folder / name).write_text("x")

    assert hashes.of_folder(folder) == before


def test_every_other_change_of_a_file_changes_the_hash(folder: Path) -> None:
    hashes = ContentHashes()
    seen = {hashes.of_folder(folder)}
    weights = folder / "model.safetensors"

    weights.write_bytes(b"Weights")  # as long as before
    seen.add(hashes.of_folder(folder))
    weights.rename(folder / "other.safetensors")
    seen.add(hashes.of_folder(folder))
    (folder / "chat_template.jinja").write_text("")
    seen.add(hashes.of_folder(folder))
    (folder / "config.json").unlink()
    seen.add(hashes.of_folder(folder))

    assert len(seen) == 5


def test_a_file_that_has_not_changed_is_not_read_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = ContentHashes()
    before = hashes.of_folder(folder)
    monkeypatch.setattr(hashlib, "file_digest", None)

    assert hashes.of_folder(folder) == before


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ContentHashes().of_folder(tmp_path / "gone")


def _age(folder: Path) -> None:
    """Let the files be older than what could still change within the resolution of their times."""
    for file in folder.iterdir():
        os.utime(file, (1, 1))


def _hash(folder: Path, memory: Path) -> str:
    return ContentHashes(memory).of_folder(folder)


def test_hashes_outlive_the_process_without_reading_the_files_again(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _age(folder)
    monkeypatch.setattr("common.content._SETTLED_NS", -1)
    memory = tmp_path / "data" / "hashes.json"
    expected = _hash(folder, memory)
    with monkeypatch.context() as patch:
        patch.setattr(hashlib, "file_digest", None)
        assert _hash(folder, memory) == expected
    (folder / "model.safetensors").write_bytes(b"changed")
    assert _hash(folder, memory) != expected


def test_hashes_of_files_that_have_just_changed_are_not_remembered(folder: Path, tmp_path: Path) -> None:
    _hash(folder, tmp_path / "hashes.json")
    assert (tmp_path / "hashes.json").read_text() == "{}"


def test_a_file_that_had_just_changed_when_it_was_read_is_not_remembered_later(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashes, memory = ContentHashes(tmp_path / "hashes.json"), tmp_path / "hashes.json"
    hashes.of_folder(folder)
    now_ns = time.time_ns() + 10**12
    monkeypatch.setattr(time, "time_ns", lambda: now_ns)
    (folder / "added.json").touch()
    hashes.of_folder(folder)
    assert list(json.loads(memory.read_text())) == [str(folder / "added.json")]


@pytest.mark.parametrize("content", ["", "[]", '{"a": 1}', '{"a": [["x"], "y"]}'], ids=["empty", "list", "1", "x"])
def test_a_damaged_or_unwritable_memory_is_ignored(folder: Path, tmp_path: Path, content: str) -> None:
    (tmp_path / "hashes.json").write_text(content)
    assert _hash(folder, tmp_path / "hashes.json") == ContentHashes().of_folder(folder)
    (tmp_path / "file").touch()
    assert _hash(folder, tmp_path / "file" / "hashes.json") == ContentHashes().of_folder(folder)
