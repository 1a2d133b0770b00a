"""Adapters loaded beside a base model, with their own texts. The models are tiny and random."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from common.errors import AdapterNotFound, ModelUnavailable
from common.jobs.prompts import RawText
from common.jobs.sampling import Grammar, GrammarKind, SamplingParams
from tests.engine_config import engine_config
from tests.fakes import Outputs
from tests.unit.worker.engine.tiny_models import CONFIGS, from_config, make_tokenizer, save_adapter, save_model
from worker.engine.engine import Engine
from worker.engine.loading.loader import EngineAdapter, EngineModel, load_model
from worker.engine.lora import AdapterWeights
from worker.engine.model_runner import PreparedAdapter
from worker.engine.prompts.prompt import SHORT_TEXT
from worker.engine.sequence import Sequence

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

CHAT = "{% for message in messages %}{{ message['content'] }}<|im_end|>{% endfor %}"
TURNS = "{% for m in messages %}<|turn|>{{ m['content'] }}<|turn_end|>{% endfor %}<|turn|>"
GREEDY = SamplingParams(seed=0, temperature=0.0, max_new_tokens=10)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with more embeddings than its tokenizer has tokens, as many have."""
    folder = tmp_path_factory.mktemp("base") / "roomy"
    config = CONFIGS["llama"]()
    config.vocab_size = 320
    torch.manual_seed(0)
    from_config(config).save_pretrained(folder)
    make_tokenizer(CHAT).save_pretrained(folder)
    return folder


@pytest.fixture
def make_adapter(base: Path, tmp_path: Path) -> Callable[..., Path]:
    def make(name: str, tokenizer: Any = None, **files: str) -> Path:
        torch.manual_seed(len(name))
        folder = save_adapter(tmp_path / name, base, "roomy")
        if tokenizer is not None:
            tokenizer.save_pretrained(folder)
        for stem, text in files.items():
            (folder / stem.replace("__", ".")).write_text(text)
        return folder

    return make


@pytest.fixture
def outputs() -> Outputs:
    return Outputs()


class Served:
    """A base model that serves."""

    def __init__(self, model: EngineModel, engine: Engine, outputs: Outputs) -> None:
        self.model, self.engine, self.outputs = model, engine, outputs
        self._numbers = itertools.count()

    def answer(self, adapter_id: str = "base", prompt: str = "Hi") -> list[int]:
        name = str(next(self._numbers))
        self.engine.submit(Sequence(name, list(prompt.encode()), GREEDY, adapter_id))
        self.outputs.wait_for(name)
        assert not [one.error for one in self.outputs.finals(name) if one.error]
        return self.outputs.token_ids(name)


@pytest.fixture(scope="module")
def lasting(base: Path) -> Iterator[Served]:
    outputs = Outputs()
    with closing(load_model(str(base), engine_config(dtype="float32", max_num_seqs=4), base_name="roomy")) as model:
        yield Served(model, model.start_engine(outputs, print), outputs)


@pytest.fixture
def served(lasting: Served, monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    """The same model for all tests, because loading takes seconds; the adapters that a test loads go with it."""
    load = lasting.model.load_adapter
    with ExitStack() as loaded:

        def load_for_this_test(adapter_id: str, folder: Path, *, never_changes: bool = False) -> EngineAdapter:
            adapter = load(adapter_id, folder, never_changes=never_changes)
            once = loaded.enter_context(ExitStack())
            once.callback(adapter.close)
            return replace(adapter, close=once.close)

        monkeypatch.setattr(lasting.model, "load_adapter", load_for_this_test)
        yield lasting


def own_tokenizer(template: str | None = TURNS) -> Any:
    tokenizer = make_tokenizer(template)
    tokenizer.add_special_tokens({"eos_token": "<|turn_end|>", "additional_special_tokens": ["<|turn|>"]})
    return tokenizer


def expected(base: Path, adapter: Path | None, prompt: str = "Hi") -> list[int]:
    """The answer of transformers and peft."""
    model: Any = AutoModelForCausalLM.from_pretrained(base)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter)
    ids = torch.tensor([list(prompt.encode())])
    found = model.eval().generate(input_ids=ids, max_new_tokens=10, do_sample=False, pad_token_id=0)
    return [int(token) for token in found[0, ids.shape[1] :]]


def test_a_base_and_its_adapters_answer_as_in_peft_whatever_was_loaded_before(
    served: Served, base: Path, make_adapter: Callable[..., Path]
) -> None:
    adapters = {name: make_adapter(name) for name in ("one", "second")}
    before = served.answer()
    for name, folder in adapters.items():
        served.model.load_adapter(name, folder)
    answers = {name: served.answer(name) for name in adapters}

    assert before == served.answer() == expected(base, None)
    assert answers == {name: expected(base, folder) for name, folder in adapters.items()}
    assert len({tuple(one) for one in (before, *answers.values())}) == 3


@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`:UserWarning")
@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`:UserWarning")
@pytest.mark.parametrize("is_tied", [False, True])
@pytest.mark.parametrize("module", ["lm_head", "embed_tokens"])
def test_an_adapter_with_a_copy_of_the_bases_weights_answers_as_in_peft(
    tmp_path: Path, outputs: Outputs, module: str, is_tied: bool
) -> None:
    config = CONFIGS["llama"]()
    config.tie_word_embeddings = is_tied
    torch.manual_seed(0)
    from_config(config).save_pretrained(tmp_path / "base")
    make_tokenizer(CHAT).save_pretrained(tmp_path / "base")
    options = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj", module], init_lora_weights=False)
    get_peft_model(AutoModelForCausalLM.from_pretrained(tmp_path / "base"), options).save_pretrained(tmp_path / "mine")
    assert any("base_layer" in key for key in load_file(tmp_path / "mine" / "adapter_model.safetensors"))

    model = load_model(str(tmp_path / "base"), engine_config(dtype="float32", max_num_seqs=4), base_name="base")
    with closing(model):
        served = Served(model, model.start_engine(outputs, print), outputs)
        model.load_adapter("mine", tmp_path / "mine")
        assert served.answer("mine") == expected(tmp_path / "base", tmp_path / "mine")


def test_an_adapter_that_was_closed_is_unknown_and_can_come_back(
    served: Served, make_adapter: Callable[..., Path]
) -> None:
    folder = make_adapter("mine")
    adapter = served.model.load_adapter("mine", folder)
    first = served.answer("mine")
    adapter.close()
    served.engine.release([])  # a later request: the removal is done
    with pytest.raises(AdapterNotFound):
        served.answer("mine")

    served.model.load_adapter("mine", folder)

    assert served.answer("mine") == first


def test_an_adapter_that_names_another_base_is_served_with_a_warning(
    served: Served, make_adapter: Callable[..., Path], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served.model, "base_name", "other-base")

    served.model.load_adapter("mine", make_adapter("mine"))

    assert re.search("mine.*roomy.*other-base", caplog.text)


def edit_weights(folder: Path, edit: Callable[[dict[str, torch.Tensor]], None]) -> None:
    weights = load_file(folder / "adapter_model.safetensors")
    edit(weights)
    save_file(weights, folder / "adapter_model.safetensors")


def rename_first(weights: dict[str, torch.Tensor]) -> None:
    name = next(iter(weights))
    weights[name.replace("layers.0", "layers.9")] = weights.pop(name)


def spoil_first(weights: dict[str, torch.Tensor]) -> None:
    next(iter(weights.values())).fill_(float("nan"))


def replace_a_weight(weights: dict[str, torch.Tensor]) -> None:
    weights["base_model.model.model.layers.0.self_attn.q_proj.base_layer.weight"] = torch.zeros(32, 32)


@pytest.mark.parametrize(
    ("break_it", "reason"),
    [
        (lambda folder: edit_weights(folder, rename_first), r"modules that the base model does not have: .*layers\.9"),
        (lambda folder: edit_weights(folder, spoil_first), "not finite numbers"),
        (lambda folder: edit_weights(folder, replace_a_weight), "replaces weights of the base model"),
        (lambda folder: (folder / "adapter_model.safetensors").write_bytes(b"half"), "cannot be read"),
        (lambda folder: (folder / "adapter_config.json").unlink(), "has no adapter_config.json"),
        (lambda folder: (folder / "tokenizer.json").write_text("{}"), "tokenizer of '.*mine' cannot be loaded"),
        (lambda folder: (folder / "chat_template.jinja").write_text("{% for %}"), "cannot be served"),
        (lambda folder: (folder / "chat_template.jinja").write_text("{{ 10**(10**9) }}"), "takes too long"),
    ],
)
def test_a_broken_adapter_is_refused_with_its_reason_and_nothing_of_it_remains(
    served: Served, make_adapter: Callable[..., Path], break_it: Callable[[Path], object], reason: str
) -> None:
    folder = make_adapter("mine")
    before = served.answer()
    break_it(folder)

    with pytest.raises(ModelUnavailable, match=rf"(?s)mine.*{reason}|{reason}.*mine"):
        served.model.load_adapter("mine", folder)

    with pytest.raises(AdapterNotFound):
        served.answer("mine")
    assert served.answer() == before
    assert not served.model.texts._shared


# Tokenizers, templates and end tokens


def test_an_adapter_without_a_tokenizer_shares_everything_with_its_base(
    served: Served, make_adapter: Callable[..., Path]
) -> None:
    assert served.model.load_adapter("mine", make_adapter("mine")).text is served.model.texts.base


def test_an_adapter_with_a_copy_of_the_bases_tokenizer_shares_it_without_loading_it(
    served: Served, make_adapter: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("worker.engine.loading.texts.load_tokenizer", None)
    whole = make_adapter("whole", make_tokenizer(CHAT))
    templated = make_adapter("templated", make_tokenizer("<{{ messages[0]['content'] }}>"))
    assert (templated / "tokenizer.json").is_file()

    assert served.model.load_adapter("whole", whole).text is served.model.texts.base
    text = served.model.load_adapter("templated", templated).text
    assert text.tokenizer is served.model.tokenizer
    assert text.renderer.render("Hi").text == "<Hi>"


def test_an_equal_tokenizer_is_recognised_and_compared_only_once(
    served: Served, make_adapter: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_adapter("mine", make_tokenizer(CHAT))
    file = folder / "tokenizer.json"
    file.write_text(json.dumps(json.loads(file.read_text())))  # the same in other bytes

    adapter = served.model.load_adapter("mine", folder)
    assert adapter.text is served.model.texts.base
    adapter.close()
    monkeypatch.setattr("worker.engine.loading.texts.load_tokenizer", None)
    assert served.model.load_adapter("again", folder).text is served.model.texts.base


def test_an_adapter_with_its_own_template_shares_the_tokenizer(
    served: Served, make_adapter: Callable[..., Path]
) -> None:
    folder = make_adapter("mine", chat_template__jinja="<{{ messages[0]['content'] }}>")
    text, base = served.model.load_adapter("mine", folder).text, served.model.texts.base

    assert text.renderer.render("Hi").text == "<Hi>"
    assert base.renderer.render("Hi").text == "Hi<|im_end|>"
    assert text.tokenizer is base.tokenizer
    assert text.renderer.parts.texts.encoding is base.renderer.parts.texts.encoding
    assert text.grammars is not base.grammars, "the template of the base names another end token"


def test_twenty_adapters_with_the_same_tokenizer_share_one(served: Served, make_adapter: Callable[..., Path]) -> None:
    adapters = [
        served.model.load_adapter(f"a{number}", make_adapter(f"a{number}", own_tokenizer())) for number in range(20)
    ]

    assert len({id(one.text) for one in adapters}) == 1
    assert adapters[0].text is not served.model.texts.base
    for adapter in adapters[1:]:
        adapter.close()
    assert served.model.texts._shared
    adapters[0].close()
    assert not served.model.texts._shared


def test_an_adapter_has_its_own_tokenizer_template_and_end_token(
    served: Served, make_adapter: Callable[..., Path]
) -> None:
    tokenizer = own_tokenizer()
    text = served.model.load_adapter("mine", make_adapter("mine", tokenizer)).text

    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], add_generation_prompt=True, return_dict=False
    )
    assert text.renderer.render("Hi").token_ids == ids
    assert ids.count(tokenizer.convert_tokens_to_ids("<|turn|>")) == 2
    assert tokenizer.eos_token_id in text.eos_token_ids
    assert text.tokenizer.decode([tokenizer.eos_token_id]) == "<|turn_end|>"
    assert tokenizer.eos_token_id not in served.model.eos_token_ids


def test_missing_parts_of_an_adapters_tokenizer_come_from_the_base(
    served: Served, make_adapter: Callable[..., Path]
) -> None:
    folder = make_adapter("mine", own_tokenizer(None))
    (folder / "tokenizer_config.json").unlink()

    text = served.model.load_adapter("mine", folder).text

    assert text.renderer.template == CHAT
    assert (text.tokenizer.eos_token, text.tokenizer.bos_token) == ("</s>", "<s>")
    assert len(text.tokenizer) == len(own_tokenizer())


@pytest.mark.parametrize("named", ["<|im_end|>", {"content": "<|im_end|>", "__type": "AddedToken"}])
def test_an_adapter_with_only_a_tokenizers_settings_names_its_end_token(
    served: Served, make_adapter: Callable[..., Path], named: Any
) -> None:
    settings = json.dumps({"eos_token": named, "bos_token": "<unheard-of>"})
    folder = make_adapter(
        "mine", tokenizer_config__json=settings, chat_template__jinja="{{ messages[0]['content'] }}{{ eos_token }}"
    )

    text = served.model.load_adapter("mine", folder).text

    end = text.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert text.renderer.render("Hi").token_ids[-1] == end
    assert end in text.eos_token_ids
    assert text.tokenizer.bos_token == "<s>"
    assert served.model.tokenizer.eos_token == "</s>"


def test_long_texts_and_grammars_use_the_adapters_own_vocabulary(
    served: Served, make_adapter: Callable[..., Path]
) -> None:
    text = served.model.load_adapter("mine", make_adapter("mine", own_tokenizer())).text
    base = served.model.texts.base
    long = "<|turn|>" * SHORT_TEXT

    for one in (text, base):
        token_ids = one.renderer.render(RawText("a" * 2 * SHORT_TEXT)).token_ids
        assert token_ids[1:] == one.tokenizer.convert_tokens_to_ids(["a"]) * 2 * SHORT_TEXT
    assert len(text.renderer.render(RawText(long)).token_ids) == len(long) + 1, "a client's text has no control tokens"
    for one in (text, base):
        constraint = one.grammars.compile(Grammar(GrammarKind.CHOICE, '["yes", "no"]'))
        assert constraint.is_known(10)
        mask = np.zeros(10, np.int32)
        constraint.allowed(mask)
        constraint.close()
        allowed = {token for token in range(320) if int(mask[token // 32]) >> token % 32 & 1}
        assert allowed == set(one.tokenizer.convert_tokens_to_ids(["y", "n"]))


def test_what_the_helper_keeps_for_an_adapter_goes_with_it(served: Served, make_adapter: Callable[..., Path]) -> None:
    before = set(served.model.helper._configuration)
    adapter: EngineAdapter = served.model.load_adapter("mine", make_adapter("mine", own_tokenizer()))
    adapter.text.renderer.render(RawText("a" * 2 * SHORT_TEXT))
    adapter.text.grammars.prepare(Grammar(GrammarKind.REGEX, "ab"))
    assert len(served.model.helper._configuration) == len(before) + 2

    adapter.close()

    assert set(served.model.helper._configuration) == before


def test_a_model_is_closed_with_its_adapters(base: Path, make_adapter: Callable[..., Path], outputs: Outputs) -> None:
    model = load_model(str(base), engine_config(), base_name="roomy")
    model.config = replace(model.config, prefill_chunk=8)
    model.start_engine(outputs, print)
    adapter = model.load_adapter("mine", make_adapter("mine", own_tokenizer()))

    model.close()

    assert not model.texts._shared
    adapter.close()  # no effect: the engine has stopped


def test_an_adapter_of_another_model_is_refused(served: Served, tmp_path: Path) -> None:
    other = save_model(tmp_path / "other", "gpt2")

    with pytest.raises(ModelUnavailable, match=r"(?s)mine.*'roomy'"):
        served.model.load_adapter("mine", save_gpt2_adapter(tmp_path / "mine", other))


def save_gpt2_adapter(folder: Path, base: Path) -> Path:
    from peft import LoraConfig, get_peft_model

    model = AutoModelForCausalLM.from_pretrained(base)
    config = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["c_attn"], fan_in_fan_out=True)
    get_peft_model(model, config).save_pretrained(folder)
    return folder


def test_an_adapter_that_never_changes_is_checked_and_prepared_once(
    served: Served, make_adapter: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    runner, weights, kept = served.model._runner, list[AdapterWeights](), list[Path]()
    assert runner is not None
    prepare = runner.prepare_adapter

    def prepare_and_note(found: AdapterWeights) -> PreparedAdapter:
        weights.append(found)
        return prepare(found)

    monkeypatch.setattr(runner, "prepare_adapter", prepare_and_note)
    monkeypatch.setattr(runner, "keep_adapter", lambda _, folder: kept.append(folder), raising=False)
    monkeypatch.setattr(runner, "restore_adapter", lambda _: prepare(weights[0]) if kept else None, raising=False)
    folder = make_adapter("one")
    answers = []
    for _ in range(2):
        adapter = served.model.load_adapter("one", folder, never_changes=True)
        answers.append(served.answer("one"))
        adapter.close()
    assert (len(weights), kept) == (1, [folder])
    assert answers[0] == answers[1]
    served.model.load_adapter("one", folder).close()
    assert len(weights) == 2, "its files may have changed"
