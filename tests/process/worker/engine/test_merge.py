"""A merged model folder computes what the base and the adapter compute in peft. The bases are tiny random models."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, GPT2Config, LlamaConfig, Qwen2Config

from models.errors import AdapterError
from tests.peft_adapters import ALL, IGNORED_WARNINGS, LLAMA
from tests.unit.worker.engine.tiny_models import make_tokenizer
from worker.engine.loading.merge import MergedModel, merge_adapter

pytestmark = [*IGNORED_WARNINGS, pytest.mark.filterwarnings("ignore:Merging lora module")]

VOCAB_SIZE = 259  # of the tiny tokenizer
LLAMA = LLAMA | {"vocab_size": VOCAB_SIZE, "bos_token_id": 257, "eos_token_id": 256}
BASES: dict[str, Any] = {
    "llama": lambda: LlamaConfig(**LLAMA, tie_word_embeddings=False),
    "tied": lambda: LlamaConfig(**LLAMA, tie_word_embeddings=True),
    "qwen2": lambda: Qwen2Config(**LLAMA, tie_word_embeddings=True),
    "gpt2": lambda: GPT2Config(
        vocab_size=VOCAB_SIZE, n_embd=64, n_layer=2, n_head=2, initializer_range=0.1, bos_token_id=257, eos_token_id=256
    ),
}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "every linear layer": ("llama", {"target_modules": "all-linear"}),
    "of a tied base": ("tied", {"target_modules": ALL}),
    "tied output layer": ("tied", {"target_modules": ["q_proj", "lm_head"]}),
    "tied embedding": ("tied", {"target_modules": ["q_proj", "embed_tokens"]}),
    "tied embedding and output layer": ("tied", {"target_modules": ["embed_tokens", "lm_head"]}),
    "tied, adapters tied too": ("tied", {"target_modules": ["q_proj", "lm_head"], "ensure_weight_tying": True}),
    "trained output layer": ("llama", {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}),
    "trained output layer of a tied base": ("tied", {"target_modules": ["q_proj"], "modules_to_save": ["lm_head"]}),
    "trained embedding of a tied base": ("tied", {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens"]}),
    "trained ends": ("qwen2", {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head"]}),
    "trained norms": ("llama", {"target_modules": ["q_proj"], "modules_to_save": ["norm"]}),
    "trained tokens": ("llama", {"target_modules": ["q_proj"], "trainable_token_indices": [5, 257]}),
    "trained tokens of a tied base": ("tied", {"target_modules": ["q_proj"], "trainable_token_indices": [5, 257]}),
    "DoRA": ("llama", {"target_modules": ["q_proj", "v_proj"], "use_dora": True}),
    "trained biases": ("qwen2", {"target_modules": ["q_proj"], "bias": "lora_only"}),
    "gpt2": ("gpt2", {"target_modules": ["c_attn", "c_proj", "c_fc"], "fan_in_fan_out": True}),
    "gpt2 with its tied output layer": ("gpt2", {"target_modules": ["c_attn", "lm_head"]}),
}


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a folder of every base."""
    folder = tmp_path_factory.mktemp("bases")
    for name, config in BASES.items():
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(config()).save_pretrained(folder / name)
        make_tokenizer("{{ messages[0].content }}").save_pretrained(folder / name)
    return folder


def load(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def save_adapter(base: Any, folder: Path, **options: Any) -> Any:
    """Save an adapter whose trained parts all differ from the base; returns the model in peft."""
    adapted = get_peft_model(base, LoraConfig(**({"r": 4, "lora_alpha": 8, "init_lora_weights": False} | options)))
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter += 0.1 * torch.randn_like(parameter)
    adapted.save_pretrained(str(folder))
    return adapted.eval()


def logits(model: Any, vocab_size: int = VOCAB_SIZE) -> Tensor:
    with torch.inference_mode():
        out: Tensor = model(torch.arange(vocab_size - 40, vocab_size)[None]).logits
    return out


def merge(base: Path, adapter: Path, target: Path, **options: Any) -> MergedModel:
    return merge_adapter(str(base), adapter, target, progress=lambda _: None, **options)


@pytest.mark.parametrize("case", CASES)
def test_the_merged_folder_computes_what_peft_computes(case: str, bases: Path, tmp_path: Path) -> None:
    base, options = CASES[case]
    save_adapter(load(bases / base), tmp_path / "adapter", **options)
    expected = logits(PeftModel.from_pretrained(load(bases / base), str(tmp_path / "adapter")).eval())

    merged = merge(bases / base, tmp_path / "adapter", tmp_path / "merged")

    torch.testing.assert_close(logits(load(merged.folder)), expected, atol=1e-4, rtol=1e-4)
    assert (expected - logits(load(bases / base))).abs().max() > 0.01
    assert merged.folder == tmp_path / "merged"
    assert not any("lora" in key for file in merged.folder.glob("*.safetensors") for key in load_file(file))
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["adapter", "merged"]


def test_an_adapter_with_more_tokens_gives_a_larger_vocabulary(bases: Path, tmp_path: Path) -> None:
    grown = load(bases / "tied")
    grown.resize_token_embeddings(VOCAB_SIZE + 3)
    adapter = tmp_path / "adapter"
    adapted = save_adapter(grown, adapter, target_modules=["q_proj"], modules_to_save=["embed_tokens", "lm_head"])
    tokenizer = make_tokenizer()
    tokenizer.add_tokens(["<a>", "<b>", "<c>"], special_tokens=True)
    tokenizer.save_pretrained(adapter)

    merged = merge(bases / "tied", adapter, tmp_path / "merged")

    model = load(merged.folder)
    assert merged.vocab_size == model.get_input_embeddings().num_embeddings == VOCAB_SIZE + 3
    torch.testing.assert_close(logits(model, VOCAB_SIZE + 3), logits(adapted, VOCAB_SIZE + 3), atol=1e-4, rtol=1e-4)
    assert AutoTokenizer.from_pretrained(merged.folder).convert_tokens_to_ids("<c>") == VOCAB_SIZE + 2


def test_tokenizer_template_and_end_tokens_are_the_adapters(bases: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    save_adapter(load(bases / "llama"), adapter, target_modules=["q_proj"])
    template = "{{ messages[0].content }}<|im_end|>"
    (adapter / "chat_template.jinja").write_text(template)

    merge(bases / "llama", adapter, tmp_path / "merged")

    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    assert tokenizer.chat_template == template
    assert tokenizer("Hi").input_ids == AutoTokenizer.from_pretrained(bases / "llama")("Hi").input_ids
    ends = GenerationConfig.from_pretrained(tmp_path / "merged").eos_token_id
    assert ends == [256, tokenizer.convert_tokens_to_ids("<|im_end|>")]


@pytest.mark.parametrize(("dtype", "expected"), [(None, torch.bfloat16), (torch.float16, torch.float16)])
def test_the_format_is_the_bases_or_the_one_asked_for(
    dtype: torch.dtype | None, expected: torch.dtype, bases: Path, tmp_path: Path
) -> None:
    load(bases / "llama").to(torch.bfloat16).save_pretrained(tmp_path / "base")
    make_tokenizer().save_pretrained(tmp_path / "base")
    save_adapter(load(tmp_path / "base"), tmp_path / "adapter", target_modules=["q_proj"])

    merged = merge(tmp_path / "base", tmp_path / "adapter", tmp_path / "merged", dtype=dtype)

    assert merged.dtype is expected
    weights = load_file(tmp_path / "merged" / "model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {expected}
    assert json.loads((tmp_path / "merged" / "config.json").read_text())["dtype"] == str(expected)[6:]


def test_the_steps_are_told(bases: Path, tmp_path: Path) -> None:
    save_adapter(load(bases / "llama"), tmp_path / "adapter", target_modules=["q_proj"])
    told: list[str] = []

    merge_adapter(str(bases / "llama"), tmp_path / "adapter", tmp_path / "merged", progress=told.append)

    assert [line.split()[0] for line in told] == ["Reading", "Merging", "Writing", "Checking"]


def refusal(base: Path, adapter: Path, target: Path) -> str:
    """Return the error's text; nothing is left behind."""
    before = sorted(target.parent.iterdir())
    with pytest.raises(AdapterError) as caught:
        merge(base, adapter, target)
    assert sorted(target.parent.iterdir()) == before
    return str(caught.value)


def test_what_cannot_be_merged_is_refused_and_leaves_nothing(bases: Path, tmp_path: Path) -> None:
    adapter, out = tmp_path / "adapter", tmp_path / "out"
    out.mkdir()
    refused = partial(refusal, bases / "llama", adapter)
    save_adapter(load(bases / "llama"), adapter, target_modules=["q_proj"])

    assert "exists already" in refused(out)
    assert "cannot be merged into" in refusal(bases / "gpt2", adapter, out / "merged")
    weights = load_file(adapter / "adapter_model.safetensors")
    first = sorted(weights)[0]
    save_file({name: value for name, value in weights.items() if name != first}, adapter / "adapter_model.safetensors")
    assert "does not fit the base model: 1 of its weights" in refused(out / "merged")
    save_file(weights | {f"{first}.more": weights[first].clone()}, adapter / "adapter_model.safetensors")
    assert f"{first}.more" in refused(out / "merged")
    save_file(weights | {first: weights[first] * torch.nan}, adapter / "adapter_model.safetensors")
    assert "cannot be merged into" in refused(out / "merged")
    (adapter / "adapter_model.safetensors").unlink()
    assert "has no adapter_model.safetensors" in refused(out / "merged")
    save_file(weights, adapter / "adapter_model.safetensors")
    assert "cannot be merged into" in refusal(tmp_path, adapter, out / "merged")
    merge(bases / "llama", adapter, out / "merged")
