"""A GGUF file without a complete language model is refused with a line that says what to do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from gguf import GGUFWriter

from models.errors import BaseModelError
from models.gguf.file import read_gguf
from tests.gguf_files import finish, write_gguf
from tests.unit.worker.engine.tiny_models import make_model


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = write_gguf(tmp_path_factory.mktemp("gguf") / "whole.gguf", make_model("llama"))
    assert read_gguf(path).architecture == "llama"
    return path.read_bytes()


@pytest.mark.parametrize("share", [0.0001, 0.001, 0.01, 0.05, 0.1, 0.5, 0.999])
def test_a_truncated_file_is_recognised(share: float, whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "cut.gguf"
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(BaseModelError, match="incomplete, damaged or in a newer format"):
        read_gguf(path)


@pytest.mark.parametrize("content", [b"", b"GG", b"\x80\x04PK not at all"])
def test_another_kind_of_file_is_recognised(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "other.gguf"
    path.write_bytes(content)
    with pytest.raises(BaseModelError, match="is not a GGUF file"):
        read_gguf(path)


def test_garbage_in_the_header_never_gives_another_error(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "garbage.gguf"
    random = np.random.default_rng(0)
    for _ in range(25):
        content = bytearray(whole)
        start = int(random.integers(4, 2000))
        content[start : start + 8] = random.bytes(8)
        path.write_bytes(content)
        try:
            read_gguf(path)
        except BaseModelError as err:
            assert repr(str(path)) in str(err)  # noqa: PT017 - most places of a file are text, where anything goes


@pytest.mark.parametrize(
    ("architecture", "describe", "advice"),
    [
        ("llama", lambda writer: writer.add_type("adapter"), "is a LoRA adapter.*Use the GGUF file of its base model"),
        (
            "clip",
            lambda writer: writer.add_type("mmproj"),
            "vision or audio part of a model. Name the file of the language model",
        ),
        ("llama", lambda writer: writer.add_uint16("split.count", 3), "is one of 3 parts. Join them"),
        ("llama", lambda writer: None, "has no weights of a language model"),
    ],
    ids=["adapter", "vision", "part", "vocabulary"],
)
def test_an_incomplete_language_model_is_recognised(
    architecture: str, describe: Callable[[GGUFWriter], None], advice: str, tmp_path: Path
) -> None:
    path = tmp_path / "other.gguf"
    writer = GGUFWriter(path, architecture)
    describe(writer)
    writer.add_tensor("blk.0.attn_q.weight.lora_a", np.zeros((4, 4), np.float32))
    finish(writer)
    with pytest.raises(BaseModelError, match=advice):
        read_gguf(path)
