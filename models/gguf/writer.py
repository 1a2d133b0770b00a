"""Writes a model folder as a GGUF file, and checks it by reading it back."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from models.errors import BaseModelError
from models.gguf.config import FREQUENCY_FACTORS
from models.gguf.model import UNREADABLE, convert
from models.gguf.vocabulary import tokenizes_alike, vocabulary_fields

if TYPE_CHECKING:
    from gguf import GGUFWriter
    from torch import Tensor

Progress = Callable[[str], None]

ARCHITECTURES = ("llama", "qwen2", "gpt2")
TRANSPOSED = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")  # of GPT-2
POSITIONS = "position_embd.weight"
Q8_0_COLUMNS = 32  # numbers that share a scale
NUM_CHECKED = 32  # tokens


class GgufType(StrEnum):
    """The number formats of the matrices."""

    F16 = "F16"
    Q8_0 = "Q8_0"


TOLERANCES = {GgufType.F16: 1e-2, GgufType.Q8_0: 1e-1}  # of the logits: norm of the difference, relative to their norm


def write_gguf(folder: Path, target: Path, kind: GgufType, *, progress: Progress) -> None:
    """Write a model folder as a GGUF file, which appears whole or not at all.

    The file is checked: our own reader makes a model of it that computes the same logits within `TOLERANCES`, and a
    tokenizer that gives the same tokens.

    Args:
        folder: a model of transformers with its tokenizer.
        target: the file, which must not exist.
        kind: number format of the matrices. Vectors have float32, and so have matrices that do not fit Q8_0's blocks.
        progress: called with one line of text per step.

    Raises:
        BaseModelError: the model cannot be written as GGUF, or `target` exists; the text says why.
    """
    if target.exists():
        raise BaseModelError(f"{str(target)!r} exists already. Name a file that does not exist.")
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.", ignore_cleanup_errors=True) as scratch:
        file = Path(scratch) / "model.gguf"
        try:
            _write_checked(folder, file, kind, progress)
        except UNREADABLE as err:
            if isinstance(err, OSError) and err.errno is not None:
                raise BaseModelError(f"{str(target)!r} cannot be written: {err}") from err
            raise BaseModelError(f"{str(folder)!r} cannot be written as a GGUF file: {_first_line(err)}") from err
        with file.open("rb") as written:
            os.fsync(written.fileno())
        os.link(file, target)  # fails if there is one by now


def _write_checked(folder: Path, file: Path, kind: GgufType, progress: Progress) -> None:
    from transformers import AutoTokenizer

    model = _load(folder)
    architecture = _architecture(model.config)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    progress(f"Writing the GGUF file in {kind}")
    fields = vocabulary_fields(tokenizer, _end_ids(model, tokenizer), _vocab_size(model), architecture)
    _write(model, folder.name, fields, tokenizer.chat_template, file, kind)
    expected = _logits(model)
    del model
    progress("Checking the GGUF file")
    back = file.with_suffix("")
    convert(file, back)
    _check(_logits(_load(back)), expected, TOLERANCES[kind])
    if not tokenizes_alike(tokenizer, AutoTokenizer.from_pretrained(back, local_files_only=True)):
        raise ValueError("the tokenizer of the file gives other tokens")
    shutil.rmtree(back)


def _load(folder: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    load: Any = AutoModelForCausalLM.from_pretrained
    return load(folder, dtype=torch.float32, use_safetensors=True, local_files_only=True).eval()


def _architecture(config: Any) -> str:
    """Return the architecture's name. Raises `ValueError` if it, or a part of it, cannot be written."""
    kind: str = config.model_type
    if kind not in ARCHITECTURES:
        raise ValueError(f"its architecture is {kind!r}; only {', '.join(ARCHITECTURES)} can be written")
    for setting in ("attention_bias", "mlp_bias", "use_sliding_window"):
        if getattr(config, setting, False) and kind != "gpt2":
            raise ValueError(f"its setting {setting} cannot be written")
    if (rope := _rope(config)).get("rope_type", "default") not in ("default", "linear", "llama3"):
        raise ValueError(f"its positions are scaled by {rope['rope_type']!r}, which cannot be written")
    return kind


def _rope(config: Any) -> dict[str, Any]:
    return getattr(config, "rope_parameters", None) or {}


def _end_ids(model: Any, tokenizer: Any) -> list[int]:
    """Return the tokens that end a response, the tokenizer's own first."""
    named = model.generation_config.eos_token_id
    ids = [tokenizer.eos_token_id, *(named if isinstance(named, list) else [named])]
    return [token_id for token_id in dict.fromkeys(ids) if token_id is not None]


def _vocab_size(model: Any) -> int:
    return int(model.get_input_embeddings().num_embeddings)


# -- writing -----------------------------------------------------------------------------------------------------------


def _write(model: Any, title: str, fields: dict[str, Any], template: Any, file: Path, kind: GgufType) -> None:
    from gguf import GGUFWriter

    writer = GGUFWriter(file, model.config.model_type)
    writer.add_name(title)
    _add_config(writer, model.config)
    _add_types(writer, kind)
    for name, value in fields.items():
        _add_field(writer, name, value)
    if isinstance(template, str):
        writer.add_chat_template(template)
    for name, values in _tensors(model):
        _add_tensor(writer, name, values, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_field(writer: GGUFWriter, name: str, value: Any) -> None:
    if isinstance(value, list):
        writer.add_array(name, value)
    elif isinstance(value, bool):
        writer.add_bool(name, value)
    elif isinstance(value, int):
        writer.add_uint32(name, value)
    else:
        writer.add_string(name, value)


def _add_types(writer: GGUFWriter, kind: GgufType) -> None:
    from gguf import GGML_QUANT_VERSION, LlamaFileType

    writer.add_type("model")
    writer.add_quantization_version(GGML_QUANT_VERSION)
    writer.add_file_type(LlamaFileType[f"MOSTLY_{kind}"])


def _add_config(writer: GGUFWriter, config: Any) -> None:
    heads, width = config.num_attention_heads, config.hidden_size
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(width)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(getattr(config, "intermediate_size", None) or config.n_inner or 4 * width)
    writer.add_head_count(heads)
    writer.add_vocab_size(config.vocab_size)
    if config.model_type == "gpt2":
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
        return
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_head_count_kv(config.num_key_value_heads)
    head_size = getattr(config, "head_dim", None) or width // heads
    writer.add_key_length(head_size)
    writer.add_value_length(head_size)
    _add_rope(writer, _rope(config), head_size)


def _add_rope(writer: GGUFWriter, rope: dict[str, Any], head_size: int) -> None:
    from gguf import RopeScalingType

    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_rope_dimension_count(head_size)
    if rope.get("rope_type") == "linear":
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    elif rope.get("rope_type") == "llama3":
        writer.add_tensor(FREQUENCY_FACTORS, _llama3_factors(rope, head_size))


def _llama3_factors(rope: dict[str, Any], head_size: int) -> Any:
    """Return the factors by which the wavelengths are stretched: plain frequencies divided by scaled ones."""
    import torch
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    sizes: dict[str, Any] = {"hidden_size": head_size, "num_attention_heads": 1, "head_dim": head_size}
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](LlamaConfig(**sizes, rope_parameters=rope), "cpu")
    plain = rope["rope_theta"] ** (-torch.arange(0, head_size, 2) / head_size)
    return (plain / scaled).clamp(1.0, rope["factor"]).to(torch.float32).numpy()


def _tensors(model: Any) -> Iterator[tuple[str, Any]]:
    """Yield every weight once, with the format's names and layout, as a float32 array."""
    import gguf

    kind = model.config.model_type
    architecture = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == kind)
    names = gguf.get_tensor_name_map(architecture, model.config.num_hidden_layers)
    for name, weight in model.named_parameters():
        theirs = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if theirs is None:
            raise ValueError(f"its weight {name} has no name in GGUF files")
        yield theirs, _laid_out(model.config, name, weight.detach()).contiguous().numpy()


def _laid_out(config: Any, name: str, weight: Tensor) -> Tensor:
    if config.model_type == "llama" and name.endswith(("q_proj.weight", "k_proj.weight")):  # pairs side by side
        heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
        return weight.reshape(heads, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)
    if config.model_type == "gpt2" and name.endswith(TRANSPOSED):
        return weight.T
    return weight


def _add_tensor(writer: GGUFWriter, name: str, values: Any, kind: GgufType) -> None:
    from gguf import GGMLQuantizationType
    from gguf.quants import quantize

    fits = kind is GgufType.F16 or values.shape[-1] % Q8_0_COLUMNS == 0
    stored = GGMLQuantizationType[kind] if values.ndim > 1 and fits and name != POSITIONS else GGMLQuantizationType.F32
    writer.add_tensor(name, quantize(values, stored), raw_dtype=stored)


# -- checking ----------------------------------------------------------------------------------------------------------


def _logits(model: Any) -> Tensor:
    import torch

    size = _vocab_size(model)
    token_ids = torch.tensor([[(3 + index * 7919) % size for index in range(NUM_CHECKED)]])
    with torch.inference_mode():
        logits: Tensor = model(input_ids=token_ids, use_cache=False).logits
    return logits


def _check(found: Tensor, expected: Tensor, tolerance: float) -> None:
    """Raise `ValueError` if the logits differ by more than the number format explains."""
    if found.shape != expected.shape or not (found - expected).norm() <= tolerance * expected.norm():
        raise ValueError("the file does not compute what the model computes; its numbers may not fit the format")


def _first_line(err: BaseException) -> str:
    return next(iter(str(err).strip().splitlines()), type(err).__name__)
