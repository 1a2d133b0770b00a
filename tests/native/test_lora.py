"""A merged adapter gives the same results as peft."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, Qwen2Config

from models.adapter.check import AdapterError, check_adapter
from tests.engine_config import runner_config
from tests.unit.worker.engine.tiny_models import CONFIGS as ARCHITECTURES
from tests.unit.worker.engine.tiny_models import make_model
from worker.engine.device.runner import DeviceRunner
from worker.engine.loading.lora import merge_lora
from worker.engine.native.runner import NativeRunner
from worker.engine.runners.check import RunnerCheck

LLAMA: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}
CONFIGS: dict[str, Any] = {
    "llama": LlamaConfig(**LLAMA),
    "tied": LlamaConfig(**LLAMA, tie_word_embeddings=True),
    "qwen2": Qwen2Config(**LLAMA, tie_word_embeddings=True),
    "gpt2": GPT2Config(vocab_size=64, n_embd=64, n_layer=2, n_head=2, n_positions=64),
}
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {"target_modules": ["q_proj", "v_proj", "down_proj"]}),
    "every linear layer": ("llama", {"target_modules": "all-linear"}),
    "rank-stabilised": ("llama", {"target_modules": ["q_proj"], "use_rslora": True}),
    "ranks by module": ("llama", {"target_modules": ["q_proj", "v_proj"], "rank_pattern": {"q_proj": 2}}),
    "alphas by module": ("llama", {"target_modules": ALL, "alpha_pattern": {r"^model.layers.1.self_attn.v_proj": 5}}),
    "one layer": ("llama", {"target_modules": ALL, "layers_to_transform": 1}),
    "some layers by their list's name": (
        "llama",
        {"target_modules": ALL, "layers_to_transform": [0], "layers_pattern": "layers"},
    ),
    "excluded": ("llama", {"target_modules": ALL, "exclude_modules": ["gate_proj"]}),
    "a pattern": ("llama", {"target_modules": r".*layers\.1\..*(q|v)_proj"}),
    "a rank above the size": ("llama", {"target_modules": ["q_proj"], "r": 300, "lora_alpha": 600}),
    "no task type": ("llama", {"target_modules": ["q_proj"], "task_type": None}),
    "trained biases of a base that has none": ("llama", {"target_modules": ["q_proj"], "bias": "all"}),
    "output layer": ("llama", {"target_modules": ["q_proj", "lm_head"]}),
    "embedding": ("llama", {"target_modules": ["q_proj", "embed_tokens"]}),
    "tied output layer": ("tied", {"target_modules": ["q_proj", "lm_head"]}),
    "tied output layer alone": ("tied", {"target_modules": ["lm_head"]}),
    "tied embedding": ("tied", {"target_modules": ["q_proj", "embed_tokens"]}),
    "tied embedding and output layer": ("tied", {"target_modules": ["embed_tokens", "lm_head"]}),
    "tied, adapters tied too": ("tied", {"target_modules": ["q_proj", "lm_head"], "ensure_weight_tying": True}),
    "tied output layer beside biases": ("qwen2", {"target_modules": [*ALL, "lm_head"]}),
    "gpt2": ("gpt2", {"target_modules": ["c_attn"], "fan_in_fan_out": True}),
    "gpt2, as peft saves it": ("gpt2", {"target_modules": ["c_attn"]}),
    "gpt2, square matrices": ("gpt2", {"target_modules": ["c_attn", "c_proj", "c_fc"]}),
    "gpt2 with its tied output layer": ("gpt2", {"target_modules": ["c_attn", "lm_head"]}),
    "gpt2's position embedding": ("gpt2", {"target_modules": ["wpe", "wte"]}),
}
# peft also saves the base weights of these
OF_EMBEDDINGS = [case for case, (_, lora) in CASES.items() if {"lm_head", "embed_tokens"} & set(lora["target_modules"])]

pytestmark = [
    pytest.mark.filterwarnings(f"ignore:{text}")
    for text in (
        "`is_gradient_checkpointing`:FutureWarning",
        "fan_in_fan_out is set:UserWarning",
        "Model has `tie_word_embeddings=True`:UserWarning",
        "Setting `save_embedding_layers`:UserWarning",
        "Could not find a config file:UserWarning",
    )
]


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        out: torch.Tensor = model(torch.arange(20)[None]).logits
    return out


def make(base: str) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(deepcopy(CONFIGS[base])).eval()


def save(base: str, folder: Path, *, save_embedding_layers: bool, **options: Any) -> torch.Tensor:
    """Save an adapter with an effect; returns the logits that peft computes with it."""
    defaults = {"r": 4, "lora_alpha": 8, "task_type": "CAUSAL_LM", "init_lora_weights": False}
    adapted = get_peft_model(make(base), LoraConfig(**(defaults | options)))
    adapted.save_pretrained(str(folder), save_embedding_layers=save_embedding_layers)
    return logits(PeftModel.from_pretrained(make(base), str(folder)).eval())


def merged(base: str, folder: Path) -> Any:
    model = make(base)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    merge_lora(model, check_adapter(folder, "tiny", shapes))
    return model


@pytest.mark.parametrize(
    ("case", "save_embedding_layers"), [*((case, False) for case in CASES), *((case, True) for case in OF_EMBEDDINGS)]
)
def test_a_merged_model_computes_what_peft_computes(case: str, save_embedding_layers: bool, tmp_path: Path) -> None:
    base, options = CASES[case]
    expected = save(base, tmp_path, save_embedding_layers=save_embedding_layers, **options)

    torch.testing.assert_close(logits(merged(base, tmp_path)), expected, atol=1e-4, rtol=1e-4)
    assert (expected - logits(make(base))).abs().max() > 0.01


@pytest.mark.parametrize("targets", ["all-linear", "embedding and output layer"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_is_merged_as_by_peft(name: str, targets: str, tmp_path: Path) -> None:
    adapted, model = make_model(name), make_model(name)
    before = logits(model)
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    names = [name.rpartition(".")[2] for name, module in model.named_modules() if module in ends]
    config = LoraConfig(
        r=4,
        lora_alpha=8,
        task_type="CAUSAL_LM",
        init_lora_weights=False,
        target_modules=targets if targets == "all-linear" else names,
    )
    get_peft_model(adapted, config).save_pretrained(str(tmp_path), save_embedding_layers=False)
    expected = logits(PeftModel.from_pretrained(make_model(name), str(tmp_path)).eval())

    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    merge_lora(model, check_adapter(tmp_path, name, shapes))

    torch.testing.assert_close(logits(model), expected, atol=1e-4, rtol=1e-4)
    assert (expected - before).abs().max() > 1


@pytest.mark.parametrize("case", [case for case, (base, _) in CASES.items() if base != "llama"])
def test_every_runner_gives_the_same_results_for_a_merged_model(case: str, tmp_path: Path) -> None:
    base, options = CASES[case]
    save(base, tmp_path, save_embedding_layers=False, **options)
    model = merged(base, tmp_path)
    check = RunnerCheck(model)

    parts = model.config, model.state_dict(), runner_config()
    device = DeviceRunner(*parts, device=torch.device("cpu"), dtype=torch.float32)
    native = NativeRunner(*parts, precision="fp32")
    for runner in (device, native):
        check.check(runner, 1e-4)
        runner.close()


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    save("llama", tmp_path, save_embedding_layers=False, target_modules=["q_proj"])
    file = tmp_path / "adapter_model.safetensors"
    weights = load_file(file)
    next(iter(weights.values()))[0, 0] = float("nan")
    save_file(weights, file)

    with pytest.raises(AdapterError, match=r"q_proj are not finite numbers.*train it again"):
        merged("llama", tmp_path)
