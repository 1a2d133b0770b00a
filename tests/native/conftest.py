"""Tiny random models and runners over them. The library is compiled once for all tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from common.settings import KvCacheDtype
from tests.unit.worker.engine.conftest import _single_thread
from worker.engine.config import RunnerConfig
from worker.engine.model_runner import Row
from worker.engine.native.build import build_library
from worker.engine.native.library import BLOCK_TOKENS, available_kernels, load_library
from worker.engine.native.runner import NativeRunner

__all__ = ["_single_thread"]

VOCAB_SIZE = 101  # not a multiple of a panel's rows
CONTEXT = 640
ROW_BLOCKS = CONTEXT // BLOCK_TOKENS

LLAMA: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 96,  # not a multiple of a group's columns
    "intermediate_size": 176,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "max_position_embeddings": CONTEXT,
    "bos_token_id": None,
    "eos_token_id": None,
}
GPT2: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "n_embd": 96,
    "n_layer": 2,
    "n_head": 3,
    "n_positions": CONTEXT,
    "bos_token_id": None,
    "eos_token_id": None,
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 10000.0,
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 128,
}

# Number formats of weights and cache, as arguments of `make_runner`.
FORMATS: dict[str, dict[str, Any]] = {
    "fp32": {"precision": "fp32"},
    "int8": {"precision": "int8"},
    "int8 cache": {"precision": "int8", "kv_cache_dtype": "int8"},
}

MODELS: dict[str, Callable[[], Any]] = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**LLAMA)),
    "llama, tied head": lambda: LlamaForCausalLM(LlamaConfig(**LLAMA, tie_word_embeddings=True)),
    "llama, biases": lambda: LlamaForCausalLM(LlamaConfig(**LLAMA, attention_bias=True, mlp_bias=True)),
    "llama, llama3 rope": lambda: LlamaForCausalLM(LlamaConfig(**LLAMA, rope_parameters=LLAMA3_ROPE)),
    "llama, heads of 48": lambda: LlamaForCausalLM(LlamaConfig(**{**LLAMA, "head_dim": 48})),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**{**LLAMA, "head_dim": 16})),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**LLAMA)),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**GPT2)),
}


def make_model(name: str) -> Any:
    """A random model with random biases and norms."""
    torch.manual_seed(7)
    model = MODELS[name]().eval()
    for parameter in model.parameters():
        if parameter.dim() == 1:
            parameter.data += 0.1 * torch.randn_like(parameter)
        else:
            parameter.data *= 3  # logits that differ
    return model


def prompt(length: int, seed: int = 0) -> tuple[int, ...]:
    """Random tokens."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randint(VOCAB_SIZE, (length,), generator=generator).tolist())


def row(sequence: int, token_ids: tuple[int, ...], start: int = 0, needs_logits: bool = True) -> Row:
    """One row of a step; each sequence has a range of blocks for a whole context."""
    blocks = tuple(range(sequence * ROW_BLOCKS, (sequence + 1) * ROW_BLOCKS))
    return Row(blocks=blocks, token_ids=token_ids, start=start, adapter="base", needs_logits=needs_logits)


class TorchRunner(NativeRunner):
    """A runner that returns its logits as a tensor, to compare them with transformers'."""

    def forward(self, rows: list[Row]) -> Any:
        return torch.from_numpy(super().forward(rows))


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture(scope="session")
def build_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("native")


@pytest.fixture(scope="session")
def all_kernels(build_dir: Path) -> list[str]:
    """Kernel sets of this CPU."""
    return available_kernels(load_library(build_library(build_dir)))


@pytest.fixture
def make_runner(build_dir: Path) -> Iterator[Callable[..., NativeRunner]]:
    """Makes runners over a model and closes them."""
    runners: list[NativeRunner] = []

    def make(
        model: Any,
        *,
        max_num_seqs: int = 4,
        context_length: int = CONTEXT,
        kv_bytes: int | None = None,
        kv_cache_dtype: KvCacheDtype = "auto",
        threads: int = 2,
        precision: Literal["fp32", "int8"] = "fp32",
        kernels: str | None = None,
    ) -> NativeRunner:
        config = RunnerConfig(
            max_num_seqs=max_num_seqs,
            context_length=context_length,
            kv_bytes=kv_bytes,
            kv_cache_dtype=kv_cache_dtype,
            num_threads=threads,
            build_dir=build_dir,
        )
        runner = TorchRunner.pack(model.config, model.state_dict(), config, precision=precision, kernels=kernels)
        runners.append(runner)
        return runner

    yield make
    for runner in runners:
        runner.close()
