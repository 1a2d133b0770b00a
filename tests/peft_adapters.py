"""Tiny random models, adapters of every kind for them, and what peft computes with these."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, Qwen2Config, Qwen3Config

from models.adapter.check import check_adapter
from worker.engine.lora import AdapterWeights, read_adapter

VOCAB_SIZE = 64
LLAMA: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "initializer_range": 0.1,
}
CONFIGS: dict[str, Any] = {
    "llama": LlamaConfig(**LLAMA),
    "tied": LlamaConfig(**LLAMA, tie_word_embeddings=True),
    "qwen2": Qwen2Config(**LLAMA, tie_word_embeddings=True),
    "qwen3": Qwen3Config(**LLAMA, head_dim=32),
    "gpt2": GPT2Config(vocab_size=VOCAB_SIZE, n_embd=64, n_layer=2, n_head=2, n_positions=64, initializer_range=0.1),
}
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "some linear layers": ("llama", {"target_modules": ["q_proj", "v_proj", "down_proj"]}),
    "every linear layer": ("llama", {"target_modules": "all-linear"}),
    "rank-stabilised": ("llama", {"target_modules": ["q_proj"], "use_rslora": True}),
    "ranks by module": ("llama", {"target_modules": ALL, "rank_pattern": {"q_proj": 2, "up_proj": 7}}),
    "alphas by module": ("llama", {"target_modules": ALL, "alpha_pattern": {r"^model.layers.1.self_attn.v_proj": 5}}),
    "one layer": ("llama", {"target_modules": ALL, "layers_to_transform": 1}),
    "some layers by their list's name": (
        "llama",
        {"target_modules": ALL, "layers_to_transform": [0], "layers_pattern": "layers"},
    ),
    "excluded": ("llama", {"target_modules": ALL, "exclude_modules": ["gate_proj"]}),
    "no task type": ("llama", {"target_modules": ["q_proj"], "task_type": None}),
    "trained biases of a base that has none": ("llama", {"target_modules": ["q_proj"], "bias": "all"}),
    "a pattern": ("llama", {"target_modules": r".*layers\.1\..*(q|v)_proj"}),
    "a rank above the size": ("llama", {"target_modules": ["q_proj"], "r": 300, "lora_alpha": 600}),
    "output layer": ("llama", {"target_modules": ["q_proj", "lm_head"]}),
    "embedding": ("llama", {"target_modules": ["q_proj", "embed_tokens"]}),
    "tied output layer": ("tied", {"target_modules": ["q_proj", "lm_head"]}),
    "tied output layer alone": ("tied", {"target_modules": ["lm_head"]}),
    "tied embedding": ("tied", {"target_modules": ["q_proj", "embed_tokens"]}),
    "tied embedding and output layer": ("tied", {"target_modules": ["embed_tokens", "lm_head"]}),
    "tied, adapters tied too": ("tied", {"target_modules": ["q_proj", "lm_head"], "ensure_weight_tying": True}),
    "tied output layer beside biases": ("qwen2", {"target_modules": [*ALL, "lm_head"]}),
    "head norms": ("qwen3", {"target_modules": ALL}),
    "gpt2": ("gpt2", {"target_modules": ["c_attn"], "fan_in_fan_out": True}),
    "gpt2, every matrix": ("gpt2", {"target_modules": ["c_attn", "c_proj", "c_fc"]}),
    "gpt2 with its tied output layer": ("gpt2", {"target_modules": ["c_attn", "lm_head"]}),
    "gpt2's embeddings": ("gpt2", {"target_modules": ["wpe", "wte"]}),
}
IGNORED_WARNINGS = [
    pytest.mark.filterwarnings(f"ignore:{text}")
    for text in (
        "`is_gradient_checkpointing`:FutureWarning",
        "fan_in_fan_out is set:UserWarning",
        "Model has `tie_word_embeddings=True`:UserWarning",
        "Setting `save_embedding_layers`:UserWarning",
        "Could not find a config file:UserWarning",
    )
]


def make_base(name: str) -> Any:
    """A base model; the same weights at every call."""
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(deepcopy(CONFIGS[name])).eval()


def logits_of(model: Any, token_ids: list[int]) -> Tensor:
    """The model's logits after every token, [tokens, vocab_size]."""
    with torch.inference_mode():
        logits: Tensor = model(torch.tensor([token_ids])).logits
    return logits[0]


@dataclass(frozen=True)
class SavedAdapter:
    """A PEFT folder, and its model in peft."""

    folder: Path
    adapted: Any
    weights: AdapterWeights

    def logits(self, token_ids: list[int]) -> Tensor:
        """As `logits_of`."""
        return logits_of(self.adapted, token_ids)


def save_adapter(model_of: Any, folder: Path, *, seed: int = 0, **options: Any) -> SavedAdapter:
    """Save an adapter with an effect.

    Args:
        model_of: makes the base model, at every call with the same weights.
        folder: where to save it.
        seed: of its weights.
        options: of its `LoraConfig`.
    """
    defaults = {"r": 4, "lora_alpha": 8, "task_type": "CAUSAL_LM", "init_lora_weights": False}
    base = model_of()
    torch.manual_seed(seed)
    get_peft_model(base, LoraConfig(**(defaults | options))).save_pretrained(str(folder), save_embedding_layers=False)
    shapes = {name: tuple(value.shape) for name, value in model_of().state_dict().items()}
    weights = read_adapter(check_adapter(folder, "tiny", shapes))
    return SavedAdapter(folder, PeftModel.from_pretrained(model_of(), str(folder)).eval(), weights)
