"""Merging an adapter gives what peft gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig

from SLMInit.adapter_check import check_adapter
from worker.engine.lora import merge_lora

LLAMA = LlamaConfig(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2)
GPT2 = GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=2, n_positions=64)
CASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "llama": (LLAMA, {"target_modules": ["q_proj", "v_proj", "down_proj"]}),
    "rank-stabilised": (LLAMA, {"target_modules": ["q_proj"], "use_rslora": True}),
    "ranks by module": (LLAMA, {"target_modules": ["q_proj", "v_proj"], "rank_pattern": {"q_proj": 2}}),
    "gpt2": (GPT2, {"target_modules": ["c_attn"], "fan_in_fan_out": True}),
    "gpt2, as peft saves it": (GPT2, {"target_modules": ["c_attn"]}),
}

pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing`:FutureWarning", "ignore:fan_in_fan_out is set:UserWarning"
)


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        out: torch.Tensor = model(torch.arange(20)[None]).logits
    return out


def make(config: Any) -> Any:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config).eval()


@pytest.mark.parametrize("case", CASES)
def test_a_merged_model_computes_what_peft_computes(case: str, tmp_path: Path) -> None:
    config, options = CASES[case]
    adapted = get_peft_model(
        make(config), LoraConfig(r=4, lora_alpha=8, task_type="CAUSAL_LM", init_lora_weights=False, **options)
    )
    adapted.save_pretrained(str(tmp_path))
    file = tmp_path / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"base_model_name_or_path": "tiny"}))
    expected = logits(PeftModel.from_pretrained(make(config), str(tmp_path)).eval())

    model = make(config)
    before = logits(model)
    shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    merge_lora(model, check_adapter(tmp_path, "tiny", shapes))

    torch.testing.assert_close(logits(model), expected, atol=1e-5, rtol=1e-5)
    assert (expected - before).abs().max() > 0.01
