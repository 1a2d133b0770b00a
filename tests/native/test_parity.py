"""The native runner gives the same results as transformers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask
from transformers.models.llama.modeling_llama import eager_attention_forward

from tests.native.conftest import MODELS, make_model, prompt, row
from worker.engine.native.runner import MAX_STEP_TOKENS


def reference(model: Any, token_ids: tuple[int, ...]) -> Tensor:
    """Logits of all positions."""
    return model(torch.tensor([token_ids])).logits[0]


def relative_error(actual: Tensor, expected: Tensor) -> float:
    return ((actual - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("name", MODELS)
def test_prefill_and_decode_agree_with_transformers(name, make_runner):
    model = make_model(name)
    runner = make_runner(model)
    token_ids = prompt(300)  # more than one block, and more than one span
    expected = reference(model, token_ids)

    after_prefill = runner.forward([row(0, token_ids[:297])])
    torch.testing.assert_close(after_prefill[0], expected[296], atol=1e-4, rtol=0)
    for position in range(297, 300):
        logits = runner.forward([row(0, token_ids[position : position + 1], position)])
        torch.testing.assert_close(logits[0], expected[position], atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_step_may_mix_chunks_and_decoding_and_gives_logits_where_they_are_needed(name, make_runner):
    model = make_model(name)
    runner = make_runner(model)
    first, second, third = prompt(90, 1), prompt(33, 2), prompt(7, 3)
    runner.forward([row(0, first[:89], needs_logits=False), row(1, second[:20], needs_logits=False)])

    logits = runner.forward([row(2, third), row(0, first[89:], 89), row(1, second[20:30], 20, needs_logits=False)])

    assert logits.shape == (2, runner.vocab_size)
    torch.testing.assert_close(logits[0], reference(model, third)[-1], atol=1e-4, rtol=0)
    torch.testing.assert_close(logits[1], reference(model, first)[-1], atol=1e-4, rtol=0)


def test_rows_longer_than_one_native_step_are_split(make_runner):
    model = make_model("llama")
    runner = make_runner(model)
    long, short = prompt(MAX_STEP_TOKENS + 60, 1), prompt(9, 2)

    logits = runner.forward([row(0, short), row(1, long)]).clone()

    torch.testing.assert_close(logits[0], reference(model, short)[-1], atol=1e-4, rtol=0)
    torch.testing.assert_close(logits[1], reference(model, long)[-1], atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", ["llama", "llama, tied head", "qwen2", "qwen3", "gpt2"])
def test_int8_stays_close_to_fp32(name, make_runner):
    model = make_model(name)
    runner = make_runner(model, precision="int8")
    token_ids = prompt(80)
    assert relative_error(runner.forward([row(0, token_ids)])[0], reference(model, token_ids)[-1]) < 0.04


def in_bytes(x: Tensor) -> Tensor:
    """Round keys or values [..., head_size] to bytes with a scale for each token and head."""
    scale = x.abs().amax(-1, keepdim=True) / 127
    return (x / scale).round() * scale


def attention_in_bytes(module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, **options: Any) -> Any:
    return eager_attention_forward(module, query, in_bytes(key), in_bytes(value), mask, **options)


def test_a_cache_in_int8_agrees_with_rounded_keys_and_values(make_runner, all_kernels):
    AttentionInterface.register("in_bytes", attention_in_bytes)
    AttentionMaskInterface.register("in_bytes", eager_mask)
    model = make_model("llama")
    token_ids = prompt(300)
    exact = reference(model, token_ids)[-1]
    model.set_attn_implementation("in_bytes")
    expected = reference(model, token_ids)[-1]
    for kernels in all_kernels:
        logits = make_runner(model, kernels=kernels, kv_cache_dtype="int8").forward([row(0, token_ids)])[0]
        assert relative_error(logits, expected) < 0.1 * relative_error(exact, expected), kernels


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_every_kernel_set_of_this_cpu_agrees_with_the_portable_one(name, precision, make_runner, all_kernels):
    model = make_model(name)
    token_ids = prompt(300)
    results = {
        kernels: make_runner(model, precision=precision, kernels=kernels).forward([row(0, token_ids)]).clone()
        for kernels in all_kernels
    }
    bound = 1e-5 if precision == "fp32" else 0.03
    for result in results.values():
        assert relative_error(result, results["portable"]) < bound


def test_checkpoints_of_the_bare_model_have_names_without_prefix(make_runner, build_dir):
    model = make_model("gpt2")
    bare = {name.removeprefix("transformer."): tensor for name, tensor in model.state_dict().items()}
    del bare["lm_head.weight"]
    token_ids = prompt(12)

    class Bare:
        config = model.config

        @staticmethod
        def state_dict():
            return bare

    logits = make_runner(Bare).forward([row(0, token_ids)])
    torch.testing.assert_close(logits[0], reference(model, token_ids)[-1], atol=1e-4, rtol=0)
