from __future__ import annotations

import io
import json
import logging
import math
import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sentencepiece
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from common.errors import InvalidRequest, ModelUnavailable
from common.jobs.prompts import RawText
from common.jobs.sampling import SamplingParams
from tests.engine_config import engine_config
from tests.fakes import Outputs
from tests.unit.worker.engine.tiny_models import CONFIGS, from_config, make_tokenizer, save_model
from worker.engine.loading import pretrained
from worker.engine.loading.loader import (
    EngineModel,
    load_model,
)
from worker.engine.loading.pretrained import check_cache_dtype, choose_device, choose_dtype, context_limit
from worker.engine.loading.texts import TokenizerDecoder
from worker.engine.loading.tokenizer import declared_end_ids, end_token_ids
from worker.engine.sequence import Sequence
from worker.helper.client import Helper

CHAT = "{% for message in messages %}{{ message['content'] }}<|im_end|>{% endfor %}"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("models") / "tiny-llama", chat_template=CHAT)


@pytest.fixture
def copy(base: Path, tmp_path: Path) -> Path:
    """A copy of the model, which a test may damage."""
    return Path(shutil.copytree(base, tmp_path / "tiny-llama"))


@pytest.fixture(autouse=True)
def _no_helper_in_advance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start the helper when it is used: most of these models are refused before that."""
    monkeypatch.setattr(Helper, "start", lambda _: None)


@pytest.fixture
def outputs() -> Outputs:
    return Outputs()


@pytest.fixture
def loaded(base: Path) -> Iterator[EngineModel]:
    model = load_model(str(base), engine_config(dtype="float32"), base_name="tiny-llama")
    yield model
    model.close()


def logits_of(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        logits: torch.Tensor = model(torch.arange(40)[None]).logits
    return logits


def run(model: EngineModel, outputs: Outputs, prompt: str, **limits: Any) -> None:
    model.config = replace(model.config, runner=replace(model.config.runner, **limits))
    engine = model.start_engine(outputs, print)
    params = SamplingParams(seed=0, temperature=0.0, max_new_tokens=10)
    engine.submit(Sequence("a", model.renderer.render(prompt).token_ids, params))
    outputs.wait_for("a")


def check(model: EngineModel, token_ids: list[int]) -> None:
    assert model._engine is not None
    model._engine.check(Sequence("a", token_ids, SamplingParams(seed=0)))


def test_a_model_folder_is_loaded_and_answers(loaded: EngineModel, outputs: Outputs) -> None:
    expected = loaded.model.generate(
        torch.tensor([loaded.renderer.render("Hi").token_ids]), max_new_tokens=10, do_sample=False, pad_token_id=0
    )
    run(loaded, outputs, "Hi")

    assert outputs.token_ids("a") == expected[0, len(loaded.renderer.render("Hi").token_ids) :].tolist()
    assert (loaded.device, loaded.dtype, loaded.context_length) == ("cpu", "float32", 64)


def test_the_choice_of_device_and_number_format_is_logged_with_its_reason(
    base: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        load_model(str(base), engine_config(dtype="bfloat16"), base_name="tiny-llama").close()

    assert "device=cpu (as configured) dtype=torch.bfloat16 (as configured)" in caplog.text


def test_a_folder_without_a_model_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match=r"'my-model' cannot be loaded.*SLM_BASE_MODEL"):
        load_model(str(tmp_path), engine_config(), base_name="my-model")


def test_an_unreachable_hub_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    with pytest.raises(ModelUnavailable, match=r"'nobody/nothing' cannot be loaded.*SLM_BASE_MODEL"):
        load_model("nobody/nothing", engine_config(), base_name="nobody/nothing")


@pytest.mark.parametrize("cached", [["config.json"], ["config.json", "tokenizer.json"]])
def test_files_missing_from_the_hubs_cache_are_fetched(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cached: list[str]
) -> None:
    cache = tmp_path / "hub"
    snapshot = cache / "models--org--tiny" / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (cache / "models--org--tiny" / "refs").mkdir()
    (cache / "models--org--tiny" / "refs" / "main").write_text("a" * 40)
    for file in cached:
        shutil.copy(base / file, snapshot)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    load = pretrained._load

    def load_as_if_online(source: str, *args: Any, local_files_only: bool) -> Any:
        if not local_files_only:
            shutil.copytree(base, snapshot, dirs_exist_ok=True)
        return load(source, *args, local_files_only=True)

    monkeypatch.setattr(pretrained, "_load", load_as_if_online)

    with closing(load_model("org/tiny", engine_config(), base_name="org/tiny")) as model:
        assert len(model.tokenizer) == 259


def test_pickled_weights_are_not_loaded(copy: Path) -> None:
    torch.save(AutoModelForCausalLM.from_pretrained(copy).state_dict(), copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()

    with pytest.raises(ModelUnavailable, match="safetensors"):
        load_model(str(copy), engine_config(), base_name="tiny-llama")


def test_damaged_weights_are_refused(copy: Path) -> None:
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])

    with pytest.raises(ModelUnavailable, match="cannot be loaded"):
        load_model(str(copy), engine_config(), base_name="tiny-llama")


def test_incomplete_weights_are_refused_and_not_invented(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))

    with pytest.raises(ModelUnavailable, match="9 are missing"):
        load_model(str(copy), engine_config(), base_name="tiny-llama")


VOCABULARY_FILES = ("tokenizer.json", "tokenizer_config.json")


@pytest.mark.parametrize("kept", [(), ("tokenizer_config.json",)])
def test_a_folder_without_a_tokenizer_is_refused_with_a_reason(copy: Path, kept: tuple[str, ...]) -> None:
    for name in set(VOCABULARY_FILES) - set(kept):
        (copy / name).unlink()

    with pytest.raises(
        ModelUnavailable, match=r"'tiny-llama' cannot be served.*has no tokenizer.*save_pretrained"
    ) as refusal:
        load_model(str(copy), engine_config(), base_name="tiny-llama")
    assert "\n" not in refusal.value.message


@pytest.mark.parametrize(
    ("file", "text"), [("tokenizer.json", "{}"), ("tokenizer.json", "["), ("tokenizer_config.json", "{")]
)
def test_a_damaged_tokenizer_is_refused_with_a_reason(copy: Path, file: str, text: str) -> None:
    (copy / file).write_text(text)

    with pytest.raises(
        ModelUnavailable, match=r"tokenizer of .*tiny-llama' cannot be loaded \(.*\). Save it again"
    ) as refusal:
        load_model(str(copy), engine_config(), base_name="tiny-llama")
    assert "\n" not in refusal.value.message


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "name", ["model.embed_tokens.weight", "model.layers.1.mlp.down_proj.weight", "model.norm.weight"]
)
def test_weights_that_are_not_finite_are_refused_with_a_reason(copy: Path, name: str, value: float) -> None:
    weights = load_file(copy / "model.safetensors")
    weights[name].view(-1)[-1] = value
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})

    with pytest.raises(ModelUnavailable, match=rf"'tiny-llama'.*{name} holds values that are not finite"):
        load_model(str(copy), engine_config(), base_name="tiny-llama")


@pytest.mark.parametrize(
    "config",
    [
        transformers.MambaConfig(vocab_size=259, hidden_size=32, num_hidden_layers=2, state_size=4),
        transformers.RwkvConfig(vocab_size=259, hidden_size=32, num_hidden_layers=2, context_length=128),
    ],
    ids=lambda config: config.model_type,
)
def test_a_state_space_model_is_refused_with_a_reason(tmp_path: Path, config: Any, outputs: Outputs) -> None:
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    for kv_bytes in (None, 1 << 20):
        with (
            closing(load_model(str(tmp_path), engine_config(dtype="float32"), base_name="mine")) as model,
            pytest.raises(ModelUnavailable, match=f"type {config.model_type} keep one state.*SLM_BASE_MODEL"),
        ):
            run(model, outputs, "Hi", kv_bytes=kv_bytes)


def test_tokens_that_the_model_lacks_are_reported_at_load_and_refused_in_a_prompt(
    copy: Path, outputs: Outputs, caplog: pytest.LogCaptureFixture
) -> None:
    tokenizer = make_tokenizer(CHAT)
    tokenizer.add_tokens(["ACME"])
    tokenizer.save_pretrained(copy)
    model = load_model(str(copy), engine_config(dtype="float32"), base_name="tiny-llama")
    assert "1 tokens that the model, with 259, lacks, such as 'ACME'" in caplog.text

    run(model, outputs, "Hi")
    with pytest.raises(
        InvalidRequest, match="has the token 259, but the model has the tokens 0 to 258 only"
    ) as refusal:
        check(model, model.renderer.render("ACME").token_ids)
    assert refusal.value.param == "prompt"
    with pytest.raises(InvalidRequest, match="has the token -1"):
        check(model, [1, -1])
    model.close()


def test_a_broken_chat_template_is_refused_at_load(copy: Path) -> None:
    (copy / "chat_template.jinja").write_text("{% for")

    with pytest.raises(ModelUnavailable, match="cannot be loaded"):
        load_model(str(copy), engine_config(), base_name="tiny-llama")


def test_an_unknown_architecture_is_refused(copy: Path) -> None:
    (copy / "config.json").write_text('{"model_type": "of-tomorrow"}')

    with pytest.raises(ModelUnavailable, match="of-tomorrow"):
        load_model(str(copy), engine_config(), base_name="tiny-llama")


def test_an_architecture_that_the_cache_cannot_hold_is_refused(
    loaded: EngineModel, outputs: Outputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loaded.model.config, "layer_types", ["conv", "full_attention"], raising=False)

    with pytest.raises(ModelUnavailable, match="unknown kind: conv"):
        run(loaded, outputs, "Hi")


def test_the_models_own_limit_caps_the_context(loaded: EngineModel, outputs: Outputs) -> None:
    run(loaded, outputs, "Hi", context_length=1_000_000)

    assert loaded.context_length == 512


def test_a_closed_model_has_stopped_its_engine_and_freed_its_memory(base: Path, outputs: Outputs) -> None:
    model = load_model(str(base), engine_config(), base_name="tiny-llama")
    run(model, outputs, "Hi")

    model.close()
    model.close()

    assert model.model is None
    assert model.tokenizer is None


# Tokenizers

TURNS = "{% for m in messages %}<|turn|>{{ m['content'] }}<|turn_end|>{% endfor %}<|turn|>"


@pytest.fixture
def roomy(tmp_path: Path) -> Path:
    """A model with more embeddings than its tokenizer has tokens, as many have."""
    config = CONFIGS["llama"]()
    config.vocab_size = 320
    from_config(config).save_pretrained(tmp_path / "roomy")
    make_tokenizer(CHAT).save_pretrained(tmp_path / "roomy")
    return tmp_path / "roomy"


def own_tokenizer(template: str | None = TURNS) -> Any:
    tokenizer = make_tokenizer(template)
    tokenizer.add_special_tokens({"eos_token": "<|turn_end|>", "additional_special_tokens": ["<|turn|>"]})
    return tokenizer


def test_a_folder_with_only_a_sentencepiece_model_is_served(roomy: Path, outputs: Outputs) -> None:
    for name in VOCABULARY_FILES:
        (roomy / name).unlink()
    trained = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a b c", "hello you"]),
        model_writer=trained,
        vocab_size=300,
        hard_vocab_limit=False,
        byte_fallback=True,
        model_type="bpe",
        minloglevel=2,
    )
    (roomy / "tokenizer.model").write_bytes(trained.getvalue())
    (roomy / "tokenizer_config.json").write_text('{"tokenizer_class": "LlamaTokenizer", "add_bos_token": true}')

    with closing(load_model(str(roomy), engine_config(dtype="float32"), base_name="roomy")) as model:
        token_ids = model.renderer.render(RawText("a </s>")).token_ids
        assert token_ids[0] == model.tokenizer.bos_token_id
        assert model.tokenizer.eos_token_id not in token_ids
        run(model, outputs, "a")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device here")
def test_a_missing_device_is_refused() -> None:
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


@pytest.mark.parametrize(
    ("device", "dtype", "named"),
    [("cuda", torch.bfloat16, "bfloat16 on cuda"), ("cpu", torch.bfloat16, "bfloat16 on cpu")],
    ids=["a GPU", "half floats on a CPU"],
)
def test_a_cache_in_int8_is_refused_by_name_where_no_runner_has_it(device: str, dtype: torch.dtype, named: str) -> None:
    with pytest.raises(ModelUnavailable, match=f"Set SLM_KV_CACHE_DTYPE to auto for {named}"):
        check_cache_dtype("int8", torch.device(device), dtype)
    check_cache_dtype("auto", torch.device(device), dtype)
    check_cache_dtype("int8", torch.device("cpu"), torch.float32)


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
        (make_config(max_seq_len=96), 96),  # MPT
        (make_config(seq_length=96), 96),  # Bloom
        (make_config(n_positions=96), 96),
        (make_config(max_position_embeddings=512, seq_length=96), 512),
        (make_config(max_position_embeddings=None), 2048),
        (make_config(max_position_embeddings=-1, max_seq_len="long"), 2048),
        (make_config(), 2048),
    ],
)
def test_the_context_is_the_one_the_model_was_made_for(config: Any, limit: int) -> None:
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

    assert end_token_ids(declared_end_ids(model), make_tokenizer(), template) == expected


def test_a_tokenizers_text_omits_special_tokens() -> None:
    tokenizer = make_tokenizer()
    decoder = TokenizerDecoder(tokenizer)

    assert decoder.decode(tokenizer.encode("a<|im_end|> b .")) == "a b ."
    assert decoder.special_token_ids == {256, 257, 258}
