"""Writes tiny GGUF files from transformers models, as llama.cpp's converter does."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType, GGUFWriter

from models.gguf.tokenizer import TokenType

ARCHITECTURES = {"gemma3_text": "gemma3"}  # llama.cpp's name, if it differs from transformers'
NORMS_PLUS_ONE = ("gemma2", "gemma3")
TRANSPOSED = ("attn.c_attn.weight", "attn.c_proj.weight", "mlp.c_fc.weight", "mlp.c_proj.weight")  # of GPT-2's
F32 = GGMLQuantizationType.F32


def write_gguf(path: Path, model: Any, tokenizer: dict[str, Any] | None = None, quantised: Any = F32) -> Path:
    """Write the model's weights and config: matrices in the given type, vectors in F32.

    Args:
        path: the file, which is overwritten.
        model: a transformers model.
        tokenizer: the result of `tokenizer_fields` or `sentencepiece_fields`; None: placeholder tokens.
        quantised: type of the matrices.
    """
    config = model.config
    writer = GGUFWriter(path, ARCHITECTURES.get(config.model_type, config.model_type))
    _add_config(writer, config)
    _add_tokenizer(writer, tokenizer or _placeholder_tokenizer(config.vocab_size))
    for name, values in _tensors(model):
        kind = quantised if values.ndim > 1 else F32
        writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
    finish(writer)
    return path


def finish(writer: GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def tokenizer_fields(tokens: list[str], merges: list[str], pre: str = "gpt-2", **fields: Any) -> dict[str, Any]:
    """Return the fields of a byte-level vocabulary. Tokens like `<...>` are control tokens."""
    types = [TokenType.CONTROL if token.startswith("<") and len(token) > 1 else TokenType.NORMAL for token in tokens]
    return {"model": "gpt2", "pre": pre, "tokens": tokens, "token_type": types, "merges": merges} | fields


def _placeholder_tokenizer(size: int) -> dict[str, Any]:
    return tokenizer_fields(["a", "b", "ab", *(f"<{n}>" for n in range(3, size))], ["a b"])


def sentencepiece_fields(tokens: list[str], types: list[int], scores: list[float], **fields: Any) -> dict[str, Any]:
    return {"model": "llama", "pre": "default", "tokens": tokens, "token_type": types, "scores": scores} | fields


def dequantised(model: Any, kind: Any) -> Any:
    """Return the model with its matrices quantised to the type and back."""
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1:
                transpose = name.endswith(TRANSPOSED)
                plain = (weight.T if transpose else weight).contiguous().numpy()
                passed = torch.tensor(gguf.quants.dequantize(gguf.quants.quantize(plain, kind), kind))
                weight.copy_(passed.T if transpose else passed)
    return model


def _add_config(writer: GGUFWriter, config: Any) -> None:
    heads, width = config.num_attention_heads, config.hidden_size
    rope = getattr(config, "rope_parameters", None) or {}
    everywhere = rope.get("full_attention", rope)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(width)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(getattr(config, "intermediate_size", None) or config.n_inner or 4 * width)
    writer.add_head_count(heads)
    if hasattr(config, "rms_norm_eps"):
        writer.add_layer_norm_rms_eps(config.rms_norm_eps)
        writer.add_head_count_kv(config.num_key_value_heads)
    else:
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
    head_size = getattr(config, "head_dim", None) or width // heads
    if getattr(config, "head_dim", None):
        writer.add_key_length(head_size)
        writer.add_value_length(head_size)
    if rope:
        writer.add_rope_freq_base(everywhere["rope_theta"])
        writer.add_rope_dimension_count(int(head_size * everywhere.get("partial_rotary_factor", 1.0)))
    if local := rope.get("sliding_attention"):
        writer.add_rope_freq_base_swa(local["rope_theta"])
    if window := getattr(config, "sliding_window", None):
        writer.add_sliding_window(window)
    _add_scaling(writer, config, everywhere, head_size)


def _add_scaling(writer: GGUFWriter, config: Any, rope: dict[str, Any], head_size: int) -> None:
    kind = rope.get("rope_type", "default")
    if kind in ("linear", "yarn"):
        writer.add_rope_scaling_type(gguf.RopeScalingType(kind))
        writer.add_rope_scaling_factor(rope["factor"])
    if original := rope.get("original_max_position_embeddings"):
        writer.add_rope_scaling_orig_ctx_len(original)
    if kind == "llama3":
        writer.add_tensor("rope_freqs.weight", llama3_factors(rope, head_size))
    if kind == "longrope":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LONGROPE)
        scale = config.max_position_embeddings / rope["original_max_position_embeddings"]
        writer.add_rope_scaling_attn_factors(math.sqrt(1 + math.log(scale) / math.log(original)))
        for length in ("long", "short"):
            writer.add_tensor(f"rope_factors_{length}.weight", np.array(rope[f"{length}_factor"], np.float32))


def llama3_factors(rope: dict[str, Any], head_size: int) -> Any:
    """Return the factors: transformers' plain frequencies divided by its scaled ones."""
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    sizes: dict[str, Any] = {"hidden_size": head_size, "num_attention_heads": 1, "head_dim": head_size}
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](LlamaConfig(**sizes, rope_parameters=rope), "cpu")
    plain = rope["rope_theta"] ** (-torch.arange(0, head_size, 2) / head_size)
    return (plain / scaled).clamp(1.0, rope["factor"]).to(torch.float32).numpy()


def _add_tokenizer(writer: GGUFWriter, fields: dict[str, Any]) -> None:
    add = {
        "model": writer.add_tokenizer_model,
        "pre": writer.add_tokenizer_pre,
        "tokens": writer.add_token_list,
        "token_type": writer.add_token_types,
        "scores": writer.add_token_scores,
        "merges": writer.add_token_merges,
        "chat_template": writer.add_chat_template,
        "add_bos": writer.add_add_bos_token,
        "add_space_prefix": writer.add_add_space_prefix,
        "bos": writer.add_bos_token_id,
        "eos": writer.add_eos_token_id,
        "eot": writer.add_eot_token_id,
        "unk": writer.add_unk_token_id,
        "pad": writer.add_pad_token_id,
    }
    for name, value in fields.items():
        if value is not None and value != []:
            add[name](value)


def _tensors(model: Any) -> list[tuple[str, Any]]:
    """Return every weight once, with llama.cpp's names and layout."""
    kind = ARCHITECTURES.get(model.config.model_type, model.config.model_type)
    architecture = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == kind)
    names = gguf.get_tensor_name_map(architecture, model.config.num_hidden_layers)
    tensors = []
    for name, weight in model.named_parameters():
        theirs = names.get_name(name, try_suffixes=(".weight", ".bias"))
        assert theirs is not None, name
        tensors.append((theirs, _laid_out(model.config, kind, name, weight.detach()).contiguous().numpy()))
    return tensors


def _laid_out(config: Any, kind: str, name: str, weight: torch.Tensor) -> torch.Tensor:
    if kind == "llama" and name.endswith(("q_proj.weight", "k_proj.weight")):
        heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
        return weight.reshape(heads, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)
    if kind == "gpt2" and name.endswith(TRANSPOSED):
        return weight.T
    if kind in NORMS_PLUS_ONE and name.endswith("norm.weight"):
        return weight + 1
    return weight
