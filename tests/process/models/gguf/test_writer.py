"""Writing a model folder as a GGUF file: what our reader makes of it is the same model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGMLQuantizationType, GGUFReader
from transformers import AutoModelForCausalLM, AutoTokenizer

from models.errors import BaseModelError
from models.gguf import model as reader
from models.gguf import writer
from models.gguf.writer import TOLERANCES, GgufType, write_gguf
from tests.unit.worker.engine.tiny_models import CONFIGS, from_config, make_tokenizer

TEMPLATE = "{% for message in messages %}{{ message['content'] }}<|im_end|>{% endfor %}"
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
IDS = torch.arange(5, 45)[None]


def silent(line: str) -> None:
    del line


def save(folder: Path, name: str = "llama", tokenizer: Any = None, **config: Any) -> Path:
    """Save a tiny model that has more embeddings than its tokenizer has tokens."""
    made = CONFIGS[name]()
    for field, value in ({"vocab_size": 320} | config).items():
        setattr(made, field, value)
    torch.manual_seed(0)
    model = from_config(made)
    model.generation_config.eos_token_id = [256, 258]
    model.save_pretrained(folder)
    (tokenizer or make_tokenizer(TEMPLATE)).save_pretrained(folder)
    return folder


def logits(folder: Path) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = AutoModelForCausalLM.from_pretrained(folder).eval()(IDS).logits
    return found


@pytest.mark.parametrize("kind", GgufType)
@pytest.mark.parametrize(
    ("name", "config"),
    [("llama", {}), ("llama", {"rope_parameters": LLAMA3}), ("llama", {"tie_word_embeddings": True}), ("gpt2", {})],
    ids=["llama", "llama 3", "tied", "gpt2"],
)
def test_what_is_read_back_is_the_same_model(tmp_path: Path, name: str, config: Any, kind: GgufType) -> None:
    folder, file = save(tmp_path / "model", name, **config), tmp_path / "out" / "model.gguf"
    write_gguf(folder, file, kind, progress=silent)
    assert [path.name for path in file.parent.iterdir()] == ["model.gguf"]
    reader.convert(file, tmp_path / "back")
    expected = logits(folder)
    assert (logits(tmp_path / "back") - expected).norm() <= TOLERANCES[kind] * expected.norm()
    ours, theirs = (AutoTokenizer.from_pretrained(tmp_path / one) for one in ("model", "back"))
    for text in ("Hello, it's <|im_end|> 2026!", "über\n\n"):
        assert theirs(text)["input_ids"] == ours(text)["input_ids"]
    assert (theirs.chat_template, theirs.eos_token, theirs.bos_token) == (TEMPLATE, "</s>", "<s>")
    settings = json.loads((tmp_path / "back" / "generation_config.json").read_text())
    assert settings["eos_token_id"] == [256, 258]


def test_matrices_that_do_not_fit_the_format_stay_exact(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    write_gguf(save(tmp_path / "model", hidden_size=48, num_attention_heads=6), file, GgufType.Q8_0, progress=silent)
    kinds = {tensor.name: tensor.tensor_type for tensor in GGUFReader(file).tensors}
    assert kinds["blk.0.attn_q.weight"] is GGMLQuantizationType.F32
    assert kinds["blk.0.ffn_down.weight"] is GGMLQuantizationType.Q8_0
    assert kinds["blk.0.attn_norm.weight"] is GGMLQuantizationType.F32


@pytest.mark.parametrize(
    ("name", "config", "words"),
    [
        ("gpt_neox", {}, "its architecture is 'gpt_neox'; only llama, qwen2, gpt2 can be written"),
        ("llama", {"attention_bias": True}, "its setting attention_bias cannot be written"),
        (
            "llama",
            {"vocab_size": 258},
            "its tokenizer has the token '<|im_end|>', for which the model has no embedding",
        ),
    ],
)
def test_what_cannot_be_written_is_refused_in_words(tmp_path: Path, name: str, config: Any, words: str) -> None:
    with pytest.raises(BaseModelError) as refused:
        write_gguf(save(tmp_path / "model", name, **config), tmp_path / "out.gguf", GgufType.F16, progress=silent)
    assert words in str(refused.value)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_file_that_computes_something_else_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "_laid_out", lambda _config, _name, weight: weight)  # forgets to permute
    with pytest.raises(BaseModelError, match="does not compute what the model computes"):
        write_gguf(save(tmp_path / "model"), tmp_path / "out.gguf", GgufType.F16, progress=silent)
    assert not (tmp_path / "out.gguf").exists()


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "out.gguf").write_text("mine")
    with pytest.raises(BaseModelError, match="exists already"):
        write_gguf(tmp_path, tmp_path / "out.gguf", GgufType.F16, progress=silent)
    assert (tmp_path / "out.gguf").read_text() == "mine"
