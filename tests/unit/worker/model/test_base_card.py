"""What the files of a base model say about it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from worker.model.base_card import BaseCard, read_base_card

APACHE = "\n      Apache License\n   Version 2.0, January 2004\n\n TERMS AND CONDITIONS"
METADATA = "---\nlanguage: en\nlicense: {}\n---\n# A model\nlicense: none\n"


def write_weights(file: Path, shapes: dict[str, list[int]]) -> None:
    """Write a safetensors file without its values."""
    header = json.dumps({"__metadata__": {"format": "pt"}} | {name: {"shape": one} for name, one in shapes.items()})
    file.write_bytes(len(header).to_bytes(8, "little") + header.encode())


@pytest.mark.parametrize(
    ("readme", "text", "expected"),
    [
        ("", "", None),
        (METADATA.format("mit"), APACHE, "mit"),
        (METADATA.format('"apache-2.0"'), "", "apache-2.0"),
        (METADATA.format("other"), "GEMMA TERMS OF USE\nLast modified: today", "GEMMA TERMS OF USE"),
        ("# A model without metadata\nlicense: mit\n", APACHE, "Apache License Version 2.0, January 2004"),
    ],
    ids=["nothing", "metadata", "quoted", "other", "title"],
)
def test_the_licence_is_that_of_the_metadata_or_the_text(
    tmp_path: Path, readme: str, text: str, expected: str | None
) -> None:
    (tmp_path / "README.md").write_text(readme)
    (tmp_path / "LICENSE").write_text(text)
    assert read_base_card(tmp_path).license == expected


def test_the_weights_of_all_files_count(tmp_path: Path) -> None:
    write_weights(tmp_path / "model-1.safetensors", {"a": [2, 3], "b": [4]})
    write_weights(tmp_path / "model-2.safetensors", {"scalar": [], "c": [5, 5]})
    size = sum(file.stat().st_size for file in tmp_path.iterdir())
    assert read_base_card(tmp_path) == BaseCard(None, 6 + 4 + 1 + 25, size)


@pytest.mark.parametrize("content", [b"", b"\xff" * 20], ids=["empty", "not JSON"])
def test_files_that_cannot_be_understood_say_nothing(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    assert read_base_card(tmp_path) == BaseCard(None, None, len(content) or None)


def test_a_folder_without_files_says_nothing(tmp_path: Path) -> None:
    assert read_base_card(tmp_path) == BaseCard()
