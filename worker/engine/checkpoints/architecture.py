"""Maps the parts of a model to its checkpoint's tensors, for runners that have their own code for the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from worker.engine.model_runner import UnsupportedModelError


class NormKind(IntEnum):
    """The kind of normalisation; the values are those of the native code."""

    RMS_NORM = 0
    LAYER_NORM = 1


class MlpKind(IntEnum):
    """The kind of feed-forward part; the values are those of the native code."""

    SWIGLU = 0
    GELU_TANH = 1


@dataclass(frozen=True, slots=True)
class Linear:
    """One matrix: the weights of one or more modules, stacked by rows."""

    modules: tuple[str, ...]
    rows: int  # outputs, of all modules together
    columns: int  # inputs
    is_transposed: bool = False  # stored [inputs, outputs], as GPT-2 does


@dataclass(frozen=True, slots=True)
class Layer:
    """The modules of one decoder layer."""

    attention_norm: str
    mlp_norm: str
    query_norm: str | None
    key_norm: str | None
    query_key_value: Linear
    attention_output: Linear
    mlp_input: Linear
    mlp_output: Linear


@dataclass(frozen=True, slots=True)
class Architecture:
    """Sizes and module names of a model."""

    base: str  # prefix of all names except the head's; checkpoints of the bare model omit it
    hidden_size: int
    intermediate_size: int
    num_heads: int
    num_kv_heads: int
    head_size: int
    norm_kind: NormKind
    norm_epsilon: float
    mlp_kind: MlpKind
    embedding: str
    position_embedding: str | None  # None: rotary positions
    final_norm: str
    head: Linear  # its module is the embedding if they are tied
    layers: tuple[Layer, ...]

    @property
    def vocab_size(self) -> int:
        """Rows of embedding and head."""
        return self.head.rows

    @property
    def is_tied(self) -> bool:
        """Whether embedding and head are the same tensor."""
        return self.head.modules == (self.embedding,)


def describe(config: Any) -> Architecture:
    """Return the architecture of a transformers model.

    Args:
        config: a `PreTrainedConfig`.

    Raises:
        UnsupportedModelError: only the transformers runner supports this model.
    """
    builder = _BUILDERS.get(config.model_type)
    if builder is None:
        raise UnsupportedModelError(f"The server's own kernels do not support models of type {config.model_type}.")
    return builder(config)


def _require(is_supported: bool, what: str) -> None:
    if not is_supported:
        raise UnsupportedModelError(f"The server's own kernels do not support {what}.")


def _llama(config: Any) -> Architecture:
    """Describe Llama, or a model that differs from it only in biases and head norms."""
    _require(config.hidden_act == "silu", f"the activation {config.hidden_act}")
    _require(not _uses_sliding_window(config), "attention over a sliding window")
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    head_size = getattr(config, "head_dim", None) or config.hidden_size // heads
    return Architecture(
        base="model.",
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_size=head_size,
        norm_kind=NormKind.RMS_NORM,
        norm_epsilon=config.rms_norm_eps,
        mlp_kind=MlpKind.SWIGLU,
        embedding="model.embed_tokens",
        position_embedding=None,
        final_norm="model.norm",
        head=_head(config, "model.embed_tokens", config.hidden_size),
        layers=tuple(_llama_layer(config, index, head_size) for index in range(config.num_hidden_layers)),
    )


def _uses_sliding_window(config: Any) -> bool:
    if getattr(config, "layer_types", None):
        return any(kind != "full_attention" for kind in config.layer_types)
    return getattr(config, "sliding_window", None) is not None and getattr(config, "use_sliding_window", True)


def _head(config: Any, embedding: str, columns: int) -> Linear:
    return Linear((embedding if config.tie_word_embeddings else "lm_head",), config.vocab_size, columns)


def _llama_layer(config: Any, index: int, head_size: int) -> Layer:
    prefix = f"model.layers.{index}."
    attention, mlp = f"{prefix}self_attn.", f"{prefix}mlp."
    hidden, inner = config.hidden_size, config.intermediate_size
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    has_head_norms = config.model_type == "qwen3"
    return Layer(
        attention_norm=f"{prefix}input_layernorm",
        mlp_norm=f"{prefix}post_attention_layernorm",
        query_norm=f"{attention}q_norm" if has_head_norms else None,
        key_norm=f"{attention}k_norm" if has_head_norms else None,
        query_key_value=Linear(
            (f"{attention}q_proj", f"{attention}k_proj", f"{attention}v_proj"),
            (heads + 2 * kv_heads) * head_size,
            hidden,
        ),
        attention_output=Linear((f"{attention}o_proj",), hidden, heads * head_size),
        mlp_input=Linear((f"{mlp}gate_proj", f"{mlp}up_proj"), 2 * inner, hidden),
        mlp_output=Linear((f"{mlp}down_proj",), hidden, inner),
    )


def _gpt2(config: Any) -> Architecture:
    _require(
        config.activation_function in {"gelu_new", "gelu_pytorch_tanh"}, f"the activation {config.activation_function}"
    )
    _require(config.scale_attn_weights and not config.scale_attn_by_inverse_layer_idx, "these attention scales")
    _require(not config.add_cross_attention, "cross attention")
    inner = config.n_inner or 4 * config.n_embd
    return Architecture(
        base="transformer.",
        hidden_size=config.n_embd,
        intermediate_size=inner,
        num_heads=config.n_head,
        num_kv_heads=config.n_head,
        head_size=config.n_embd // config.n_head,
        norm_kind=NormKind.LAYER_NORM,
        norm_epsilon=config.layer_norm_epsilon,
        mlp_kind=MlpKind.GELU_TANH,
        embedding="transformer.wte",
        position_embedding="transformer.wpe",
        final_norm="transformer.ln_f",
        head=_head(config, "transformer.wte", config.n_embd),
        layers=tuple(_gpt2_layer(config.n_embd, inner, index) for index in range(config.n_layer)),
    )


def _gpt2_layer(hidden: int, inner: int, index: int) -> Layer:
    prefix = f"transformer.h.{index}."
    return Layer(
        attention_norm=f"{prefix}ln_1",
        mlp_norm=f"{prefix}ln_2",
        query_norm=None,
        key_norm=None,
        query_key_value=Linear((f"{prefix}attn.c_attn",), 3 * hidden, hidden, is_transposed=True),
        attention_output=Linear((f"{prefix}attn.c_proj",), hidden, hidden, is_transposed=True),
        mlp_input=Linear((f"{prefix}mlp.c_fc",), inner, hidden, is_transposed=True),
        mlp_output=Linear((f"{prefix}mlp.c_proj",), hidden, inner, is_transposed=True),
    )


_BUILDERS: dict[str, Callable[[Any], Architecture]] = {
    "llama": _llama,
    "mistral": _llama,
    "qwen2": _llama,
    "qwen3": _llama,
    "gpt2": _gpt2,
}
