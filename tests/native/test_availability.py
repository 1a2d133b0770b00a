"""Models that cannot run natively are refused with the reason."""

from __future__ import annotations

import stat
from types import SimpleNamespace

import pytest
import torch
from transformers import Gemma2Config, GPT2Config, LlamaConfig, Qwen2Config

from tests.native.conftest import FORMATS, GPT2, LLAMA, make_model, prompt, row
from worker.engine.model_runner import UnsupportedModelError
from worker.engine.native.build import build_library
from worker.engine.native.errors import BuildFailed, NativeUnavailable
from worker.engine.native.kernel_sets import kernel_sets_of, this_architecture
from worker.engine.native.library import load_library


def test_the_library_is_compiled_once(build_dir):
    library = build_library(build_dir)
    built_at = library.stat().st_mtime_ns
    assert build_library(build_dir) == library
    assert library.stat().st_mtime_ns == built_at
    assert [path.name for path in build_dir.iterdir()] == [library.name]


def test_this_cpu_has_sets_of_its_architecture_the_best_first(all_kernels):
    names = [one.name for one in kernel_sets_of(this_architecture())]
    assert all_kernels == [name for name in names if name in all_kernels]
    assert all_kernels[-1] == "portable"


def test_without_a_compiler_the_reason_is_given(tmp_path):
    with pytest.raises(BuildFailed, match=r"no C compiler \(no-such-compiler\)"):
        build_library(tmp_path, compiler="no-such-compiler")


def test_a_compiler_that_fails_is_quoted_and_leaves_nothing(tmp_path):
    compiler = tmp_path / "cc"
    compiler.write_text('#!/bin/sh\n[ "$1" = --version ] && exit 0\necho "out of disk" >&2\nexit 1\n')
    compiler.chmod(compiler.stat().st_mode | stat.S_IXUSR)
    folder = tmp_path / "native"
    with pytest.raises(BuildFailed, match="out of disk"):
        build_library(folder, compiler=str(compiler))
    assert list(folder.iterdir()) == []


def test_the_compiler_of_the_environment_is_used(tmp_path, monkeypatch):
    monkeypatch.setenv("CC", "another-compiler")
    with pytest.raises(BuildFailed, match="another-compiler"):
        build_library(tmp_path)


def test_a_folder_that_cannot_be_created_is_named(tmp_path):
    blocker = tmp_path / "file"
    blocker.touch()
    with pytest.raises(BuildFailed, match="file"):
        build_library(blocker / "native")


def test_a_broken_library_is_refused(tmp_path):
    broken = tmp_path / "broken.so"
    broken.write_bytes(b"no library")
    with pytest.raises(BuildFailed, match="cannot be loaded"):
        load_library(broken)


def test_kernels_that_this_cpu_does_not_support_are_refused(make_runner):
    with pytest.raises(NativeUnavailable, match="sparc kernels do not run"):
        make_runner(make_model("llama"), kernels="sparc")


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (Gemma2Config(), "type gemma2"),
        (LlamaConfig(**{**LLAMA, "hidden_act": "gelu"}), "activation gelu"),
        (LlamaConfig(**{**LLAMA, "head_dim": 20}), "head_size 20"),
        (LlamaConfig(**{**LLAMA, "head_dim": 512}), "head_size 512"),
        (LlamaConfig(**LLAMA, rope_parameters={"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}), "dynamic"),
        (Qwen2Config(**{**LLAMA, "head_dim": 16}, use_sliding_window=True, max_window_layers=0), "sliding window"),
        (GPT2Config(**GPT2, activation_function="relu"), "activation relu"),
        (GPT2Config(**GPT2, scale_attn_by_inverse_layer_idx=True), "attention scales"),
    ],
)
def test_models_with_other_parts_are_refused(config, reason, make_runner):
    tensors = make_model("gpt2" if config.model_type == "gpt2" else "llama").state_dict()
    with pytest.raises(UnsupportedModelError, match=reason):
        make_runner(SimpleNamespace(config=config, state_dict=lambda: tensors))


def test_a_context_beyond_the_learned_positions_is_refused(make_runner):
    with pytest.raises(UnsupportedModelError, match="640 positions, not 700"):
        make_runner(make_model("gpt2"), context_length=700)


def test_a_missing_tensor_is_named(make_runner):
    model = make_model("llama")
    tensors = model.state_dict()
    del tensors["model.layers.1.mlp.up_proj.weight"]
    with pytest.raises(UnsupportedModelError, match=r"no tensor model\.layers\.1\.mlp\.up_proj\.weight"):
        make_runner(SimpleNamespace(config=model.config, state_dict=lambda: tensors))


def test_a_tensor_of_another_shape_is_named(make_runner):
    model = make_model("llama")
    tensors = {**model.state_dict(), "model.layers.0.self_attn.k_proj.weight": torch.zeros(999, 96)}
    with pytest.raises(UnsupportedModelError, match=r"k_proj has shape \(999, 96\)"):
        make_runner(SimpleNamespace(config=model.config, state_dict=lambda: tensors))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_weights_that_are_not_finite_are_refused(value, precision, make_runner):
    model = make_model("llama")
    model.model.layers[1].mlp.down_proj.weight[5, 7] = value
    with pytest.raises(ValueError, match=r"layers\.1\.mlp\.down_proj\.weight has values that are not finite"):
        make_runner(model, precision=precision)


@pytest.mark.parametrize("numbers", FORMATS.values(), ids=FORMATS)
def test_a_sequence_that_overflows_gets_nan_logits_and_its_neighbour_does_not(numbers, make_runner):
    model = make_model("llama")
    model.model.embed_tokens.weight[9] = float("inf")
    runner = make_runner(model, **numbers)
    expected = runner.forward([row(0, (1, 2, 3))]).clone()
    logits = runner.forward([row(0, (1, 2, 3)), row(1, (1, 9, 3))])
    assert torch.equal(logits[:1], expected)
    assert logits[1].isnan().any()
    assert torch.equal(runner.forward([row(1, (1, 2, 3))]), expected), "its memory is clean again"


@pytest.mark.parametrize("kv_cache_dtype", ["auto", "int8"])
def test_a_single_value_that_overflows_gives_nan_logits(kv_cache_dtype, make_runner, all_kernels):
    model = make_model("llama")
    weight = model.model.layers[0].self_attn.v_proj.weight
    weight[0] = 3e38 * torch.randn(weight.shape[1]).sign()  # infinities of both signs, whose sum is NaN
    model.model.layers[0].input_layernorm.weight *= 100
    for kernels in all_kernels:
        runner = make_runner(model, kernels=kernels, kv_cache_dtype=kv_cache_dtype)
        assert runner.forward([row(0, (1, 2, 3))]).isnan().any(), kernels


def test_prompts_of_one_token_work(make_runner):
    assert make_runner(make_model("qwen3")).forward([row(3, prompt(1))]).isfinite().all()
