"""Tiny models with random weights, one per architecture; they speak the fakes' byte tokens."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

from tests.fakes import EOS, VOCAB_SIZE

CONTEXT = 512
WINDOW = 16  # shorter than the tests' texts
_COMMON = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": CONTEXT,
    "initializer_range": 0.4,  # large, so that the next token depends visibly on all before it
    "bos_token_id": None,
    "eos_token_id": EOS,
    "pad_token_id": EOS,
}
_LLAMA = _COMMON | {"intermediate_size": 64, "num_key_value_heads": 2}
_GEMMA = _LLAMA | {"head_dim": 8, "num_hidden_layers": 4, "sliding_window": WINDOW}
_ALTERNATING = {"layer_types": ["sliding_attention", "full_attention"] * 2}

CONFIGS: dict[str, Callable[[], Any]] = {
    "llama": lambda: transformers.LlamaConfig(**_LLAMA),
    "gpt2": lambda: transformers.GPT2Config(**_COMMON),
    "qwen2": lambda: transformers.Qwen2Config(**_LLAMA),
    "qwen2-sliding": lambda: transformers.Qwen2Config(
        **_LLAMA, use_sliding_window=True, sliding_window=WINDOW, max_window_layers=1
    ),
    "qwen3": lambda: transformers.Qwen3Config(**_LLAMA, head_dim=8),
    "gemma2": lambda: transformers.Gemma2Config(**_GEMMA, **_ALTERNATING, query_pre_attn_scalar=8),
    "gemma3": lambda: transformers.Gemma3TextConfig(**_GEMMA, **_ALTERNATING, query_pre_attn_scalar=8),
    "phi3": lambda: transformers.Phi3Config(**_LLAMA),
    "phi3-sliding": lambda: transformers.Phi3Config(**_LLAMA, sliding_window=WINDOW),
    "mistral": lambda: transformers.MistralConfig(**_LLAMA, sliding_window=None),
    "mistral-sliding": lambda: transformers.MistralConfig(**_LLAMA, sliding_window=WINDOW),
    "gpt_neox": lambda: transformers.GPTNeoXConfig(**_COMMON, intermediate_size=64),
    "gpt_neo": lambda: transformers.GPTNeoConfig(
        **{key: value for key, value in _COMMON.items() if not key.startswith("num_")},
        num_layers=2,
        num_heads=4,
        attention_types=[[["global", "local"], 1]],
        window_size=WINDOW,
    ),
    "opt": lambda: transformers.OPTConfig(**_COMMON, ffn_dim=64, word_embed_proj_dim=32),
}


def make_model(name: str) -> Any:
    """The model of that architecture; the same weights at every call."""
    torch.manual_seed(0)
    return from_config(CONFIGS[name]())


def from_config(config: Any) -> Any:
    return transformers.AutoModelForCausalLM.from_config(config).eval()


def make_tokenizer(chat_template: str | None = None) -> Any:
    """A byte-level tokenizer with the usual special tokens; `<s>` is put before a text on request."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={char: index for index, char in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["</s>", "<s>", "<|im_end|>"])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 257)])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", chat_template=chat_template
    )


def save_model(folder: Path, name: str = "llama", chat_template: str | None = None) -> Path:
    """A model folder as `save_pretrained` writes it."""
    config = CONFIGS[name]()
    config.vocab_size += 1
    torch.manual_seed(0)
    from_config(config).save_pretrained(folder)
    make_tokenizer(chat_template).save_pretrained(folder)
    return folder


def save_adapter(folder: Path, base: Path, base_name: str) -> Path:
    """A LoRA adapter that changes the answers a lot."""
    from peft import LoraConfig, get_peft_model  # takes 3 s, and most users of this module need none of it

    model = transformers.AutoModelForCausalLM.from_pretrained(base)
    config = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)
        model = get_peft_model(model, config)
        model.peft_config["default"].base_model_name_or_path = base_name
        model.save_pretrained(folder, save_embedding_layers=False)
    return folder
