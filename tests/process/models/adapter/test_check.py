"""Which adapters fit a base model, and what the refusal says. The bases are tiny random models."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from models.adapter.check import AdapterError, AdapterInfo, check_adapter
from tests.sliminit_models import gpt2, llama

# peft 0.21 still asks transformers 5.23 by the old name
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

BASE = "tiny-llama"
Shapes = Mapping[str, tuple[int, ...]]


def shapes_of(model: PreTrainedModel) -> Shapes:
    return {name: tuple(weight.shape) for name, weight in model.state_dict().items()}


def save_adapter(folder: Path, model: PreTrainedModel, base: str = BASE, **lora: Any) -> Path:
    """Save a PEFT folder of the model without training."""
    config = LoraConfig(task_type="CAUSAL_LM", **({"r": 4, "lora_alpha": 8} | lora))
    model.name_or_path = base
    get_peft_model(model, config).save_pretrained(folder, save_embedding_layers=False)
    return folder


@pytest.fixture(scope="module")
def shapes() -> Shapes:
    return shapes_of(llama())


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return save_adapter(tmp_path / "mine", llama())


def edit_config(adapter: Path, **values: Any) -> None:
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def edit_weights(adapter: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    file = adapter / "adapter_model.safetensors"
    save_file(change(load_file(file)), file)


def refusal(adapter: Path, shapes: Shapes, base: str = BASE) -> str:
    """Return the text of the refusal, which always names adapter and base."""
    with pytest.raises(AdapterError) as caught:
        check_adapter(adapter, base, shapes)
    assert str(adapter) in str(caught.value)
    assert repr(base) in str(caught.value)
    return str(caught.value)


def test_an_adapter_of_this_base_is_described(adapter: Path, shapes: Shapes) -> None:
    info = check_adapter(adapter, BASE, shapes)
    assert isinstance(info, AdapterInfo)
    assert (info.path, info.base_model, info.rank) == (adapter, BASE, 4)
    modules = {f"model.layers.{layer}.self_attn.{name}" for layer in (0, 1) for name in ("q_proj", "v_proj")}
    assert set(info.ranks) == set(info.scalings) == modules
    assert set(info.scalings.values()) == {2.0}


@pytest.mark.parametrize(
    "base",
    [
        "TINY-Llama",
        "someone/tiny-llama",
        "/models/tiny-llama/",
        "C:\\models\\tiny-llama",
        "/home/me/.cache/huggingface/hub/models--someone--tiny-llama/snapshots/0123456789abcdef",
    ],
)
def test_the_base_is_recognised_by_its_name_on_any_machine(adapter: Path, shapes: Shapes, base: str) -> None:
    info = check_adapter(adapter, base, shapes)
    assert (info.base_model, info.warning) == (BASE, None)
    edit_config(adapter, base_model_name_or_path=base)
    assert check_adapter(adapter, BASE, shapes).warning is None


@pytest.mark.parametrize("named", ["gpt2", "/data/run-7", "someone/tiny-llama-bnb-4bit", "tiny-llama.Q8_0.gguf"])
def test_fitting_weights_are_accepted_with_a_warning_whatever_base_they_name(
    adapter: Path, shapes: Shapes, named: str
) -> None:
    edit_config(adapter, base_model_name_or_path=named)
    info = check_adapter(adapter, BASE, shapes)
    assert info.base_model == named
    assert info.warning is not None
    assert repr(named) in info.warning
    assert repr(BASE) in info.warning


@pytest.mark.parametrize("named", [None, ""])
def test_an_adapter_need_not_name_its_base(adapter: Path, shapes: Shapes, named: str | None) -> None:
    edit_config(adapter, base_model_name_or_path=named)
    assert check_adapter(adapter, BASE, shapes).warning is None


@pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to False:UserWarning")
@pytest.mark.parametrize("declared", [True, False])
def test_gpt2s_weights_are_transposed(tmp_path: Path, declared: bool) -> None:
    adapter = save_adapter(tmp_path / "g", gpt2(), "gpt2")
    edit_config(adapter, fan_in_fan_out=declared)
    info = check_adapter(adapter, "gpt2", shapes_of(gpt2()))
    assert set(info.ranks) == {"transformer.h.0.attn.c_attn", "transformer.h.1.attn.c_attn"}


@pytest.mark.parametrize(
    "values",
    [
        {"bias": "all"},  # for a base that has none
        {"auto_mapping": {"base_model_class": "LlamaForCausalLM", "parent_library": "transformers"}},
        {"init_lora_weights": "eva", "eva_config": {"rho": 2.0}},
        {"target_modules": "all-linear"},
        {"layers_to_transform": [0, 1], "layers_pattern": "layers"},
        {"a_field_of_a_later_peft": None},
    ],
)
def test_settings_without_effect_on_the_result_are_accepted(
    adapter: Path, shapes: Shapes, values: dict[str, Any]
) -> None:
    edit_config(adapter, **values)
    assert check_adapter(adapter, BASE, shapes).rank == 4


@pytest.mark.parametrize("layers", [[1], 1])
@pytest.mark.parametrize("pattern", [None, "layers", ["h", "layers"]])
def test_only_some_layers_may_be_adapted(
    tmp_path: Path, shapes: Shapes, layers: list[int] | int, pattern: list[str] | str | None
) -> None:
    adapter = save_adapter(tmp_path / "p", llama(), layers_to_transform=layers, layers_pattern=pattern)
    found = set(check_adapter(adapter, BASE, shapes).ranks)
    assert found == {"model.layers.1.self_attn.q_proj", "model.layers.1.self_attn.v_proj"}
    edit_config(adapter, layers_to_transform=[0, 1])
    assert "lacks weights for modules that it targets: model.layers.0.self_attn" in refusal(adapter, shapes)


def test_ranks_and_scalings_per_module_are_those_that_peft_computes_with(tmp_path: Path, shapes: Shapes) -> None:
    model = llama()
    lora = {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {r"layers\.1\.self_attn\.v_proj": 32}, "use_rslora": True}
    info = check_adapter(save_adapter(tmp_path / "p", model, **lora), BASE, shapes)
    layers = {
        name: module for name, module in model.named_modules() if hasattr(module, "scaling") and hasattr(module, "r")
    }
    assert dict(info.ranks) == {name: module.r["default"] for name, module in layers.items()}
    assert dict(info.scalings) == pytest.approx({name: module.scaling["default"] for name, module in layers.items()})


def test_modules_may_be_named_by_a_pattern_and_excluded(tmp_path: Path, shapes: Shapes) -> None:
    lora = {"target_modules": r".*\.(q_proj|down_proj)", "exclude_modules": ["layers.0.mlp.down_proj"]}
    info = check_adapter(save_adapter(tmp_path / "p", llama(), **lora), BASE, shapes)
    assert set(info.ranks) == {
        "model.layers.0.self_attn.q_proj",
        "model.layers.1.self_attn.q_proj",
        "model.layers.1.mlp.down_proj",
    }


def test_an_adapter_of_a_wider_model_is_refused(tmp_path: Path, shapes: Shapes) -> None:
    text = refusal(save_adapter(tmp_path / "wide", llama(hidden=32)), shapes)
    assert "is (4, 32); the base model and rank 4 need (4, 16)" in text
    assert text.endswith("Serve the base model that it was trained on, 'tiny-llama'.")


def test_an_adapter_of_a_deeper_model_is_refused(tmp_path: Path, shapes: Shapes) -> None:
    text = refusal(save_adapter(tmp_path / "deep", llama(layers=4)), shapes)
    assert "modules that the base model does not have: model.layers.2.self_attn.q_proj" in text
    assert "and 1 more" in text


def test_an_adapter_of_half_the_layers_is_refused(tmp_path: Path) -> None:
    text = refusal(save_adapter(tmp_path / "half", llama(layers=1)), shapes_of(llama(layers=2)))
    assert "lacks weights for modules that it targets: model.layers.1.self_attn.q_proj" in text


def test_weights_that_the_config_does_not_target_are_refused(adapter: Path, shapes: Shapes) -> None:
    edit_config(adapter, target_modules=["q_proj"])
    assert "modules that it does not target: model.layers.0.self_attn.v_proj" in refusal(adapter, shapes)


def test_half_a_pair_of_matrices_is_refused(adapter: Path, shapes: Shapes) -> None:
    key = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight"
    edit_weights(adapter, lambda weights: {name: value for name, value in weights.items() if name != key})
    assert "lora_B of model.layers.0.self_attn.q_proj is missing" in refusal(adapter, shapes)


def test_a_weight_that_is_not_a_lora_matrix_is_refused(adapter: Path, shapes: Shapes) -> None:
    edit_weights(adapter, lambda weights: weights | {"base_model.model.lm_head.weight": torch.zeros(257, 16)})
    assert "'base_model.model.lm_head.weight', which is not a LoRA matrix" in refusal(adapter, shapes)


def test_trained_biases_are_refused(adapter: Path, shapes: Shapes) -> None:
    key = "base_model.model.model.layers.0.self_attn.q_proj.bias"
    edit_weights(adapter, lambda weights: weights | {key: torch.zeros(16)})
    assert f"has trained biases ({key!r})" in refusal(adapter, shapes)


@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`:UserWarning")
def test_an_output_layer_of_another_vocabulary_is_refused(tmp_path: Path, shapes: Shapes) -> None:
    adapter = save_adapter(tmp_path / "p", llama(), target_modules=["lm_head"])
    key = "base_model.model.lm_head.base_layer.weight"
    edit_weights(adapter, lambda weights: weights | {key: torch.zeros(300, 16)})
    text = refusal(adapter, shapes)
    assert "a different lm_head (shape (300, 16) instead of (257, 16)" in text
    assert "slm merge" in text


def test_weights_of_integers_are_refused(adapter: Path, shapes: Shapes) -> None:
    edit_weights(adapter, lambda weights: {name: value.to(torch.int8) for name, value in weights.items()})
    assert "has the type I8" in refusal(adapter, shapes)


def test_bfloat16_weights_are_accepted(adapter: Path, shapes: Shapes) -> None:
    edit_weights(adapter, lambda weights: {name: value.to(torch.bfloat16) for name, value in weights.items()})
    assert check_adapter(adapter, BASE, shapes).rank == 4


def test_no_weights_at_all_are_refused(adapter: Path, shapes: Shapes) -> None:
    edit_config(adapter, target_modules=["nothing"])
    edit_weights(adapter, lambda _: {})
    assert "is empty" in refusal(adapter, shapes)


def test_a_damaged_file_is_refused(adapter: Path, shapes: Shapes) -> None:
    file = adapter / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:100])
    assert "cannot be read" in refusal(adapter, shapes)


def test_pickled_weights_are_never_opened(adapter: Path, shapes: Shapes) -> None:
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    text = refusal(adapter, shapes)
    assert "in other formats (.bin, .pt) are never loaded" in text
    assert "save it again" in text


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"peft_type": "IA3"}, "peft_type is IA3"),
        ({"use_dora": True}, "sets use_dora"),
        ({"modules_to_save": ["lm_head"]}, "sets modules_to_save"),
        ({"trainable_token_indices": [1]}, "sets trainable_token_indices"),
        ({"a_field_of_a_later_peft": 1}, "sets a_field_of_a_later_peft"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights='pissa' also changed the base"),
        ({"r": 0}, "r: Input should be greater than or equal to 1"),
        ({"r": 100_000}, "rank 100000 need (100000, 16)"),
        ({"rank_pattern": {"q_proj": 0}}, "rank_pattern.q_proj"),
        ({"target_modules": "("}, "'(', which is not a valid pattern"),
        ({"target_modules": None}, "target_modules"),
    ],
)
def test_a_kind_of_adapter_that_is_not_served_is_refused(
    adapter: Path, shapes: Shapes, values: dict[str, Any], reason: str
) -> None:
    edit_config(adapter, **values)
    assert reason in refusal(adapter, shapes)


def test_a_real_dora_adapter_is_refused(tmp_path: Path, shapes: Shapes) -> None:
    text = refusal(save_adapter(tmp_path / "dora", llama(), use_dora=True), shapes)
    assert "sets use_dora" in text
    assert "slm merge" in text


@pytest.mark.parametrize(("text", "reason"), [("{", "the file: Invalid JSON"), ("[]", "the file: Input should be")])
def test_a_config_that_is_not_a_json_object_is_refused(adapter: Path, shapes: Shapes, text: str, reason: str) -> None:
    (adapter / "adapter_config.json").write_text(text)
    assert reason in refusal(adapter, shapes)


def test_a_folder_without_an_adapter_is_distinguished_from_a_missing_folder(tmp_path: Path, shapes: Shapes) -> None:
    assert "the folder has no adapter_config.json" in refusal(tmp_path, shapes)
    assert "the folder does not exist" in refusal(tmp_path / "gone", shapes)
