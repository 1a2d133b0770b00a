from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from common.errors import ModelUnavailable
from common.sampling import SamplingParams
from common.settings import ROOT
from tests.fakes import Outputs
from tests.unit.engine.tiny_models import make_tokenizer, save_adapter, save_model
from worker.engine.loader import (
    LoadedModel,
    TokenizerDecoder,
    choose_device,
    choose_dtype,
    context_limit,
    end_token_ids,
    load_model,
)
from worker.engine.sequence import Sequence

CHAT = "{% for message in messages %}{{ message['content'] }}<|im_end|>{% endfor %}"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("models") / "tiny-llama", chat_template=CHAT)


@pytest.fixture
def copy(base: Path, tmp_path: Path) -> Path:
    """A copy of the model that a test may damage."""
    return Path(shutil.copytree(base, tmp_path / "tiny-llama"))


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_adapter(tmp_path_factory.mktemp("adapters") / "mine", base, "tiny-llama")


@pytest.fixture
def outputs() -> Outputs:
    return Outputs()


@pytest.fixture
def loaded(base: Path) -> Iterator[LoadedModel]:
    model = load_model(str(base), base_name="tiny-llama", device="cpu", dtype="float32")
    yield model
    model.close()


def logits_of(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        logits: torch.Tensor = model(torch.arange(40)[None]).logits
    return logits


def run(model: LoadedModel, outputs: Outputs, prompt: str, **options: Any) -> None:
    defaults = {"num_slots": 2, "max_context": 64, "num_threads": 1, "deliver": outputs, "on_fatal": print}
    defaults |= {"build_dir": ROOT / "data" / "native"}
    engine = model.start_engine(**(defaults | options))
    params = SamplingParams(seed=0, temperature=0.0, max_new_tokens=10)
    engine.submit(Sequence("a", model.renderer.render(prompt).token_ids, params))
    outputs.wait_for("a")


def test_a_model_folder_is_loaded_and_answers(loaded: LoadedModel, outputs: Outputs) -> None:
    expected = loaded.model.generate(
        torch.tensor([loaded.renderer.render("Hi").token_ids]), max_new_tokens=10, do_sample=False, pad_token_id=0
    )
    run(loaded, outputs, "Hi")

    assert outputs.token_ids("a") == expected[0, len(loaded.renderer.render("Hi").token_ids) :].tolist()
    assert (loaded.device.type, loaded.dtype, loaded.context_length) == ("cpu", "float32", 64)


def test_the_choice_of_device_and_number_format_is_logged_with_its_reason(
    base: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        load_model(str(base), base_name="tiny-llama", device="cpu", dtype="bfloat16").close()

    assert "device=cpu (as asked) dtype=torch.bfloat16 (as asked)" in caplog.text


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_an_adapter_is_merged_into_the_weights(base: Path, adapter: Path) -> None:
    model = load_model(str(base), base_name="tiny-llama", device="cpu", adapter_path=adapter)

    original = AutoModelForCausalLM.from_pretrained(base)
    before = logits_of(original)
    expected = logits_of(PeftModel.from_pretrained(original, adapter))
    torch.testing.assert_close(logits_of(model.model), expected, atol=1e-4, rtol=1e-4)
    assert (expected - before).abs().max() > 0.1
    assert model.adapter is not None
    assert model.adapter.rank == 4
    model.close()


def test_an_adapter_that_names_another_base_is_served_with_a_warning(
    base: Path, adapter: Path, caplog: pytest.LogCaptureFixture
) -> None:
    load_model(str(base), base_name="other-base", device="cpu", adapter_path=adapter).close()

    assert re.search("mine.*tiny-llama.*other-base", caplog.text)


def test_an_adapter_that_does_not_fit_is_refused_with_both_names(base: Path, adapter: Path, copy: Path) -> None:
    save_model(copy, "gpt2")

    with pytest.raises(ModelUnavailable, match=r"(?s)mine.*'other'.*tiny-llama"):
        load_model(str(copy), base_name="other", adapter_path=adapter)


def test_a_folder_without_a_model_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match=r"'my-model' cannot be loaded.*SLM_BASE_MODEL"):
        load_model(str(tmp_path), base_name="my-model")


def test_a_hub_that_cannot_be_reached_is_said_to_be_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    with pytest.raises(ModelUnavailable, match=r"'nobody/nothing' cannot be loaded.*SLM_BASE_MODEL"):
        load_model("nobody/nothing", base_name="nobody/nothing")


def test_pickled_weights_are_not_loaded(copy: Path) -> None:
    torch.save(AutoModelForCausalLM.from_pretrained(copy).state_dict(), copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()

    with pytest.raises(ModelUnavailable, match="safetensors"):
        load_model(str(copy), base_name="tiny-llama")


def test_damaged_weights_are_refused(copy: Path) -> None:
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])

    with pytest.raises(ModelUnavailable, match="cannot be loaded"):
        load_model(str(copy), base_name="tiny-llama")


def test_incomplete_weights_are_refused_instead_of_made_up(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))

    with pytest.raises(ModelUnavailable, match="9 are missing"):
        load_model(str(copy), base_name="tiny-llama")


def test_a_broken_chat_template_is_refused_at_load(copy: Path) -> None:
    (copy / "chat_template.jinja").write_text("{% for")

    with pytest.raises(ModelUnavailable, match="cannot be loaded"):
        load_model(str(copy), base_name="tiny-llama")


def test_an_unknown_architecture_is_refused(copy: Path) -> None:
    (copy / "config.json").write_text('{"model_type": "of-tomorrow"}')

    with pytest.raises(ModelUnavailable, match="of-tomorrow"):
        load_model(str(copy), base_name="tiny-llama")


def test_an_architecture_that_slots_cannot_hold_is_refused(
    loaded: LoadedModel, outputs: Outputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loaded.model.config, "layer_types", ["conv", "full_attention"], raising=False)

    with pytest.raises(ModelUnavailable, match="unknown kind: conv"):
        run(loaded, outputs, "Hi")


def test_the_models_own_limit_caps_the_context(loaded: LoadedModel, outputs: Outputs) -> None:
    run(loaded, outputs, "Hi", max_context=1_000_000)

    assert loaded.context_length == 512


def test_a_closed_model_has_stopped_its_engine_and_holds_nothing(base: Path, outputs: Outputs) -> None:
    model = load_model(str(base), base_name="tiny-llama", device="cpu")
    run(model, outputs, "Hi")

    model.close()
    model.close()

    assert model.model is None
    assert model.tokenizer is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(ModelUnavailable, match=r"no cuda device.*SLM_DEVICE"):
        choose_device("cuda")


@pytest.mark.parametrize(
    ("device", "has_bfloat16", "dtype"),
    [
        ("cpu", False, torch.float32),
        ("cuda", True, torch.bfloat16),
        ("cuda", False, torch.float16),
        ("mps", False, torch.float16),
    ],
)
def test_the_number_format_suits_the_device(
    monkeypatch: pytest.MonkeyPatch, device: str, has_bfloat16: bool, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_bfloat16)

    assert choose_dtype("auto", torch.device(device))[0] is dtype


def make_config(**options: Any) -> Any:
    return SimpleNamespace(**options)


@pytest.mark.parametrize(
    ("config", "limit"),
    [
        (make_config(max_position_embeddings=1024), 1024),
        (make_config(max_position_embeddings=4096, rope_parameters={"rope_type": "llama3"}), 4096),
        (
            make_config(
                max_position_embeddings=131072,
                rope_parameters={"rope_type": "longrope", "original_max_position_embeddings": 4096},
            ),
            4096,
        ),
        (make_config(), 2048),
    ],
)
def test_the_context_is_what_the_model_was_made_for(config: Any, limit: int) -> None:
    assert context_limit(config, make_tokenizer()) == limit


@pytest.mark.parametrize(
    ("in_generation_config", "template", "expected"),
    [
        (None, "", {256}),
        (7, "", {7, 256}),
        ([7, 8], "", {7, 8, 256}),
        (7, "{{ x }}<|im_end|>", {7, 256, 258}),
        (7, "{{ x }}<|eot_id|>", {7, 256}),
    ],
)
def test_every_token_that_ends_an_answer_is_found(
    in_generation_config: int | list[int] | None, template: str, expected: set[int]
) -> None:
    model = SimpleNamespace(
        generation_config=SimpleNamespace(eos_token_id=in_generation_config), config=SimpleNamespace(eos_token_id=None)
    )

    assert end_token_ids(model, make_tokenizer(), template) == expected


def test_a_tokenizers_text_leaves_special_tokens_out() -> None:
    tokenizer = make_tokenizer()
    decoder = TokenizerDecoder(tokenizer)

    assert decoder.decode(tokenizer.encode("a<|im_end|> b .")) == "a b ."
    assert decoder.special_token_ids == {256, 257, 258}
