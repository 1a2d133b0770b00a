"""Reads a GGUF file's metadata and list of tensors, and checks that it is one complete language model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.errors import BaseModelError

if TYPE_CHECKING:
    from gguf.gguf_reader import ReaderTensor

MAGIC = b"GGUF"
# The reader's errors for invalid bytes: it does not check lengths.
BROKEN = (ValueError, LookupError, OverflowError, TypeError)


@dataclass(frozen=True, slots=True)
class GgufFile:
    """A GGUF file of a language model. The tensors' data stay on disk until they are accessed."""

    path: Path
    metadata: Mapping[str, Any]
    tensors: Mapping[str, ReaderTensor]

    @property
    def architecture(self) -> str:
        """Its architecture in llama.cpp's terms, e.g. `llama` or `qwen2`."""
        return str(self.metadata["general.architecture"])

    def setting(self, name: str) -> Any:
        """Return a setting of its architecture, e.g. `context_length`; None if the file does not have it."""
        return self.metadata.get(f"{self.architecture}.{name}")

    def token_setting(self, name: str) -> Any:
        """Return a setting of its tokenizer, e.g. `eos_token_id`; None if the file does not have it."""
        return self.metadata.get(f"tokenizer.ggml.{name}")

    def refusal(self, why: str) -> BaseModelError:
        """Return the error that says why this file cannot be used."""
        return _refusal(self.path, why)


def read_gguf(path: Path) -> GgufFile:
    """Read everything but the weights.

    Raises:
        BaseModelError: it is not a GGUF file, is damaged, or is not one complete language model.
    """
    from gguf import GGUFReader

    with path.open("rb") as start:
        if start.read(len(MAGIC)) != MAGIC:
            raise _refusal(path, "it is not a GGUF file. Name a GGUF file, or the folder that save_pretrained wrote.")
    try:
        reader = GGUFReader(path)
        file = GgufFile(
            path,
            {name: field.contents() for name, field in reader.fields.items()},
            {tensor.name: tensor for tensor in reader.tensors},
        )
    except BROKEN as err:
        raise _refusal(
            path,
            f"the file is incomplete, damaged or in a newer format ({err}). Download it again and compare its size.",
        ) from err
    _check_is_language_model(file)
    return file


def _check_is_language_model(file: GgufFile) -> None:
    kind = file.metadata.get("general.type", "model")
    if kind == "adapter":
        raise file.refusal(
            "it is a LoRA adapter, not a model. Use the GGUF file of its base model; adapters are served from PEFT "
            "folders (SLM_LORA_PATH)."
        )
    if kind == "mmproj" or file.metadata.get("general.architecture") == "clip":
        raise file.refusal("it is the vision or audio part of a model. Name the file of the language model itself.")
    if file.metadata.get("split.count", 1) > 1:
        raise file.refusal(
            f"it is one of {file.metadata['split.count']} parts. Join them with llama.cpp's "
            "`llama-gguf-split --merge` and use the result."
        )
    if "general.architecture" not in file.metadata or "token_embd.weight" not in file.tensors:
        raise file.refusal("it has no weights of a language model. Use the file with the weights.")


def _refusal(path: Path, why: str) -> BaseModelError:
    return BaseModelError(f"Base model {str(path)!r}: {why}")
