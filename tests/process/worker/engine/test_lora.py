"""Reading an adapter's matrices. The base is a tiny random model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from models.adapter.check import AdapterError, check_adapter
from tests.process.models.adapter.test_check import save_adapter, shapes_of
from tests.sliminit_models import gpt2, llama
from worker.engine.lora import AdapterWeights, read_adapter

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

Q_PROJ, EMBEDDING = "model.layers.0.self_attn.q_proj", "model.embed_tokens"


def read(folder: Path) -> AdapterWeights:
    return read_adapter(check_adapter(folder, "tiny-llama", shapes_of(llama())))


def change(folder: Path, edit: Callable[[dict[str, Tensor]], None]) -> None:
    file = folder / "adapter_model.safetensors"
    tensors = load_file(file)
    edit(tensors)
    save_file(tensors, file)


def test_the_scaling_is_part_of_b(tmp_path: Path) -> None:
    folder = save_adapter(tmp_path, llama(), init_lora_weights=False, r=4, lora_alpha=8, rank_pattern={"v_proj": 2})
    saved = load_file(folder / "adapter_model.safetensors")

    weights = read(folder)

    q, v = weights.modules[Q_PROJ], weights.modules["model.layers.1.self_attn.v_proj"]
    assert (q.rank, v.rank) == (4, 2)
    torch.testing.assert_close(q.a, saved[f"base_model.model.{Q_PROJ}.lora_A.weight"], atol=0, rtol=0)
    torch.testing.assert_close(q.b, saved[f"base_model.model.{Q_PROJ}.lora_B.weight"] * 2, atol=0, rtol=0)
    scaled = saved["base_model.model.model.layers.1.self_attn.v_proj.lora_B.weight"] * 4
    torch.testing.assert_close(v.b, scaled, atol=0, rtol=0)
    assert weights.num_bytes == sum(matrix.nbytes for matrix in saved.values())


def test_the_matrices_are_float32_in_whatever_format_they_are_saved(tmp_path: Path) -> None:
    folder = save_adapter(tmp_path, llama(), init_lora_weights=False)
    change(folder, lambda tensors: tensors.update({name: value.half() for name, value in tensors.items()}))

    matrices = read(folder).modules[Q_PROJ]

    assert matrices.a.dtype is matrices.b.dtype is torch.float32


def test_embeddings_are_apart_from_linear_layers(tmp_path: Path) -> None:
    folder = save_adapter(tmp_path, llama(), target_modules=["q_proj", "embed_tokens", "lm_head"])
    vocab_size, hidden_size = shapes_of(llama())["model.embed_tokens.weight"]

    weights = read(folder)

    assert set(weights.embeddings) == {EMBEDDING}
    assert {Q_PROJ, "lm_head"} < set(weights.modules)
    assert weights.embeddings[EMBEDDING].a.shape == (4, vocab_size)
    assert weights.embeddings[EMBEDDING].b.shape == (hidden_size, 4)


def test_the_matrices_of_gpt2_have_the_same_orientation_as_of_linear_layers(tmp_path: Path) -> None:
    folder = save_adapter(tmp_path, gpt2(), target_modules=["c_attn"], fan_in_fan_out=True)
    shapes = shapes_of(gpt2())

    weights = read_adapter(check_adapter(folder, "tiny", shapes))

    num_in, num_out = shapes["transformer.h.0.attn.c_attn.weight"]
    matrices = weights.modules["transformer.h.0.attn.c_attn"]
    assert (matrices.a.shape, matrices.b.shape) == ((4, num_in), (num_out, 4))


@pytest.mark.parametrize(("name", "value"), [("A", float("nan")), ("B", float("inf")), ("B", 3e38)])
def test_numbers_that_are_not_finite_are_refused(name: str, value: float, tmp_path: Path) -> None:
    folder = save_adapter(tmp_path, llama())
    key = f"base_model.model.{Q_PROJ}.lora_{name}.weight"
    change(folder, lambda tensors: tensors.update({key: torch.full_like(tensors[key], value)}))

    with pytest.raises(AdapterError, match=r"layers\.0\.self_attn\.q_proj are not finite numbers.*train it again"):
        read(folder)


def test_weights_that_replace_the_bases_are_refused(tmp_path: Path) -> None:
    folder = save_adapter(tmp_path, llama(), target_modules=["q_proj", "lm_head"])
    weight = torch.zeros(shapes_of(llama())["lm_head.weight"])
    change(folder, lambda tensors: tensors.update({"base_model.model.lm_head.base_layer.weight": weight}))

    with pytest.raises(AdapterError, match=r"replaces weights of the base model \(lm_head\).*slm merge"):
        read(folder)


def test_copies_of_the_bases_own_weights_are_ignored_in_whatever_format_they_are_saved(tmp_path: Path) -> None:
    folder = save_adapter(tmp_path, llama(), target_modules=["q_proj", "lm_head"], init_lora_weights=False)
    info = check_adapter(folder, "tiny-llama", shapes_of(llama()))
    bare = read_adapter(info)
    weight = torch.randn(shapes_of(llama())["lm_head.weight"])
    for copy in (weight, weight.bfloat16(), weight.half()):
        change(folder, lambda tensors, copy=copy: tensors.update({"base_model.model.lm_head.base_layer.weight": copy}))
        copied = check_adapter(folder, "tiny-llama", shapes_of(llama()))
        assert copied.base_layers == {"lm_head"}
        found = read_adapter(copied, {"lm_head": weight}.get)
        assert found.modules.keys() == bare.modules.keys()
    with pytest.raises(AdapterError, match=r"replaces weights of the base model \(lm_head\)"):
        read_adapter(copied, {"lm_head": weight + 0.1 * torch.randn_like(weight)}.get)
