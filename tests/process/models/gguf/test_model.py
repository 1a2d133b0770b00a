"""A GGUF file as the base model gives the same results as the same weights in safetensors."""

from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from gguf import GGMLQuantizationType, GGUFWriter

from models.base_model import BaseModelError, main, model_name, needs_conversion, resolve_base_model
from models.gguf import model as gguf_model
from tests.engine_config import engine_config
from tests.gguf_files import dequantised, finish, tokenizer_fields, write_gguf
from tests.unit.worker.engine.tiny_models import CONFIGS, from_config, make_model, save_adapter
from worker.engine.loading.loader import load_model

F32, F16, BF16 = GGMLQuantizationType.F32, GGMLQuantizationType.F16, GGMLQuantizationType.BF16
Q8_0, Q4_0 = GGMLQuantizationType.Q8_0, GGMLQuantizationType.Q4_0
IDS = torch.randint(0, 256, (1, 80), generator=torch.Generator().manual_seed(1))
LLAMA3 = {"rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0, "rope_theta": 500_000.0}


def silent(line: str) -> None:
    del line


def convert(path: Path) -> Path:
    folder = path.with_suffix("")
    gguf_model.convert(path, folder)
    return folder


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        result: torch.Tensor = model(IDS).logits
    return result


def assert_computes_like(folder: Path, model: Any) -> None:
    converted = transformers.AutoModelForCausalLM.from_pretrained(folder)
    assert torch.equal(logits(converted), logits(model))


def llama(**changed: Any) -> Any:
    return transformers.LlamaConfig(**CONFIGS["llama"]().to_diff_dict() | changed)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "tiny.gguf", make_model("llama"))


@pytest.mark.parametrize(
    ("architecture", "quantised"),
    [
        *(("llama", kind) for kind in (F32, F16, BF16, Q8_0, Q4_0)),
        *(("gpt2", kind) for kind in (F32, F16, Q8_0)),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_its_logits_are_those_of_the_same_weights_in_safetensors(
    architecture: str, quantised: Any, tmp_path: Path
) -> None:
    model = make_model(architecture)
    path = write_gguf(tmp_path / "model.gguf", model, quantised=quantised)
    assert_computes_like(convert(path), dequantised(model, quantised))


@pytest.mark.parametrize("architecture", ["qwen2", "qwen3", "gemma2", "phi3", "phi3-sliding"])
def test_other_architectures_are_exact_too(architecture: str, tmp_path: Path) -> None:
    config = CONFIGS[architecture]()
    if architecture == "gemma2":
        config.num_hidden_layers, config.layer_types = 2, config.layer_types[:2]
    torch.manual_seed(0)
    model = from_config(config)
    assert_computes_like(convert(write_gguf(tmp_path / "model.gguf", model)), model)


@pytest.mark.parametrize(
    "config",
    [
        llama(head_dim=16),
        llama(tie_word_embeddings=True),
        llama(rope_parameters={"rope_type": "linear", "factor": 4.0, "rope_theta": 1e6}),
        llama(
            rope_parameters={
                "rope_type": "yarn",
                "factor": 4.0,
                "rope_theta": 1e4,
                "original_max_position_embeddings": 128,
            }
        ),
        llama(
            hidden_size=256, rope_parameters=LLAMA3 | {"factor": 32.0, "original_max_position_embeddings": 8192}
        ),  # heads wide enough to have slow, mixed and fast frequencies
        transformers.Phi3Config(
            **CONFIGS["phi3"]().to_diff_dict()
            | {
                "original_max_position_embeddings": 64,
                "rope_parameters": {
                    "rope_type": "longrope",
                    "rope_theta": 1e4,
                    "long_factor": [1.0, 2.5, 3.0, 9.0],
                    "short_factor": [1.0, 1.1, 1.2, 1.3],
                    "original_max_position_embeddings": 64,
                },
            }
        ),
        transformers.Phi3Config(
            **CONFIGS["phi3"]().to_diff_dict()
            | {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5}}
        ),
        transformers.Gemma3TextConfig(
            **CONFIGS["gemma3"]().to_diff_dict()
            | {
                "layer_types": ["sliding_attention"] * 5 + ["full_attention"],
                "num_hidden_layers": 6,
                "query_pre_attn_scalar": 8,
                "rope_parameters": {
                    "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6},
                    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
                },
            }
        ),
    ],
    ids=["head size", "tied", "linear", "yarn", "llama 3", "longrope", "partial rotary", "gemma 3"],
)
def test_metadata_that_transformers_ignores_is_used(config: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = from_config(config)
    assert_computes_like(convert(write_gguf(tmp_path / "model.gguf", model)), model)


def test_the_config_has_the_decimals_from_before_float32(file: Path) -> None:
    config = json.loads((convert(file) / "config.json").read_text())
    assert config["rms_norm_eps"] == 1e-6
    assert "quantization_config" not in config


def test_exactly_the_end_tokens_of_the_file_end_an_answer(tmp_path: Path) -> None:
    tokens = tokenizer_fields([f"<{n}>" for n in range(256)], [], eos=7, eot=9, bos=5, pad=7)
    folder = convert(write_gguf(tmp_path / "chat.gguf", make_model("llama"), tokens))
    model = load_model(str(folder), engine_config(dtype="float32"), base_name="chat")
    assert model.eos_token_ids == {7, 9}
    assert model.tokenizer.bos_token == "<5>"
    assert json.loads((folder / "config.json").read_text())["pad_token_id"] == 7
    model.close()


def test_it_is_converted_once_below_the_data_folder(file: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    assert needs_conversion(str(file), tmp_path)
    first = resolve_base_model(str(file), tmp_path, progress=lines.append)
    num_lines = len(lines)
    assert not needs_conversion(str(file), tmp_path)
    assert resolve_base_model(str(file), tmp_path, progress=lines.append) == first
    assert num_lines == len(lines) == 2
    assert Path(first).parent == tmp_path / "models"
    assert Path(first).name.startswith("gguf-tiny-")


def test_a_changed_file_is_converted_again(file: Path, tmp_path: Path) -> None:
    before = gguf_model.converted(file, tmp_path)
    os.utime(file, ns=(0, 0))
    assert gguf_model.converted(file, tmp_path) != before


def test_other_files_in_its_folder_are_ignored(file: Path, tmp_path: Path) -> None:
    model = make_model("llama")
    model.save_pretrained(tmp_path / "base")
    save_adapter(tmp_path, tmp_path / "base", "base")
    assert_computes_like(convert(file), model)


def test_an_adapter_can_name_the_file_as_its_base(file: Path, tmp_path: Path) -> None:
    folder = resolve_base_model(str(file), tmp_path, progress=silent)
    adapter = save_adapter(tmp_path / "adapter", Path(folder), model_name(str(file)))
    assert model_name(str(file)) == "tiny"
    model = load_model(folder, engine_config(dtype="float32"), base_name="tiny")
    model.start_engine(lambda _: None, print)
    assert model.load_adapter("a", adapter).num_bytes > 0
    model.close()


def test_the_command_converts_it(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--base-model", str(file), "--data-dir", str(tmp_path)]) == 0
    assert f"Base model {file}: {gguf_model.converted(file, tmp_path / 'models')}" in capsys.readouterr().out


def test_an_unsupported_architecture_is_named_with_an_alternative(tmp_path: Path) -> None:
    path = tmp_path / "rare.gguf"
    writer = GGUFWriter(path, "rwkv7")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(["a"])
    writer.add_tensor("token_embd.weight", IDS.numpy().astype("float32"))
    finish(writer)
    with pytest.raises(BaseModelError, match=r"cannot read the architecture 'rwkv7'.*safetensors"):
        resolve_base_model(str(path), tmp_path, progress=silent)
    assert [found.suffix for found in (tmp_path / "models").iterdir()] == [".lock"]


@pytest.mark.parametrize(
    ("lost", "added", "complaint"),
    [
        ("blk.1.ffn_up.weight", None, "1 weights of the model are missing in .*model.layers.1.mlp.up_proj.weight"),
        (None, "blk.0.attn_q.bias", "numbers, but the model has"),
    ],
)
def test_a_conversion_with_other_weights_than_the_file_is_not_served(
    lost: str | None, added: str | None, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_tensor = GGUFWriter.add_tensor

    def other_tensors(writer: GGUFWriter, name: str, tensor: Any, **options: Any) -> None:
        if name != lost:
            add_tensor(writer, name, tensor, **options)
        if added and name == "output_norm.weight":
            add_tensor(writer, added, tensor)

    monkeypatch.setattr(GGUFWriter, "add_tensor", other_tensors)
    path = write_gguf(tmp_path / "odd.gguf", make_model("llama"))
    with pytest.raises(BaseModelError, match=complaint):
        convert(path)


def test_an_unknown_scaling_of_positions_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.gguf_files.llama3_factors", lambda rope, size: IDS[0, : size // 2].numpy() + 1.5)
    config = llama(rope_parameters=LLAMA3 | {"factor": 8.0, "original_max_position_embeddings": 8192})
    path = write_gguf(tmp_path / "scaled.gguf", from_config(config))
    with pytest.raises(BaseModelError, match="uses a custom scaling of its positions"):
        convert(path)


def test_a_disk_that_is_too_small_is_reported_before_the_conversion(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(0, 0, 0))
    with pytest.raises(BaseModelError, match=r"take \d+ MiB as float32, but .* has 0 MiB free"):
        convert(file)


@pytest.mark.parametrize("name", ["nowhere.gguf", "weights.bin"])
def test_a_file_that_cannot_be_a_model_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / "weights.bin").touch()
    with pytest.raises(BaseModelError, match=r"does not exist|must have a name that ends in \.gguf"):
        resolve_base_model(str(tmp_path / name), tmp_path, progress=silent)


def test_a_folder_with_a_gguf_file_is_refused_with_a_hint_to_name_the_file(file: Path, tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match=r"has no config\.json.*Name its file tiny\.gguf instead"):
        resolve_base_model(str(file.parent), tmp_path, progress=silent)


def test_a_fully_known_file_gives_no_warning(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="SLMInit"):
        convert(file)
    assert caplog.messages == []
