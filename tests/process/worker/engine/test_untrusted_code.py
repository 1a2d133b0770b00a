"""Templates and patterns of a model or adapter are untrusted programs: they may never end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jinja2 import TemplateError
from tokenizers import Regex, pre_tokenizers

from common.errors import InvalidRequest, ModelUnavailable
from common.jobs.prompts import Conversation, Prompt, RawText
from models.adapter.check import AdapterError, check_adapter
from models.text.chat_template import ChatTemplate, render_chat
from tests.engine_config import engine_config
from tests.process.models.adapter.test_check import BASE, Shapes, edit_config, save_adapter, shapes_of
from tests.sliminit_models import llama
from tests.small_tokenizers import byte_fallback, byte_level, unigram
from tests.unit.worker.engine.tiny_models import make_tokenizer, save_model
from worker.engine.loading.loader import load_model
from worker.engine.prompts.prompt import SHORT_TEXT, PromptRenderer
from worker.engine.untrusted_code.client import RENDERING, TakesTooMuch, UntrustedPrograms
from worker.engine.untrusted_code.services import PROGRAMS, SERVICES
from worker.helper.client import Helper
from worker.helper.given_up import GivenUp

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

HELLO = [{"role": "user", "content": "Hello"}]
MESSAGES = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
NESTED = "{% for a in range(99999) %}" * 4 + "{% set b = a %}" + "{% endfor %}" * 4
# Each of them hangs or uses up memory, but only for one message, so that it passes at load.
HOSTILE = [
    NESTED,
    "{{ 10**(10**9) }}",
    "{{ 'x' * 10**10 }}",
    "{% set s = namespace(t='x') %}{% for _ in range(99) %}{% set s.t = s.t ~ s.t %}{% endfor %}",
    "{{ '%9999999999d' % 1 }}",
]


def make_helper() -> Helper:
    """As for a loaded model: children do not have to import anything."""
    helper = Helper(SERVICES)
    helper.configure(PROGRAMS, value=True)
    return helper


@pytest.fixture(scope="module")
def untrusted() -> Iterator[UntrustedPrograms]:
    helper = make_helper()
    yield UntrustedPrograms(helper)
    helper.close()


@pytest.fixture
def helper() -> Iterator[Helper]:
    one = make_helper()
    yield one
    one.close()


def render(untrusted: UntrustedPrograms, source: str) -> str:
    return untrusted.render_chat(ChatTemplate(source, {"eos_token": "</s>"}), HELLO)


# Templates


def test_a_template_is_rendered_as_in_this_process(untrusted: UntrustedPrograms) -> None:
    template = ChatTemplate(MESSAGES + "{{ eos_token }}", {"eos_token": "</s>"})
    messages = [*HELLO, {"role": "assistant", "content": "日本 \x00 \ue000"}]

    assert untrusted.render_chat(template, messages) == render_chat(template, messages)


def test_a_refusal_of_a_template_keeps_its_words(untrusted: UntrustedPrograms) -> None:
    with pytest.raises(TemplateError, match="no system messages here"):
        render(untrusted, "{{ raise_exception('no system messages here') }}")


@pytest.mark.parametrize("source", HOSTILE)
def test_a_template_that_uses_too_much_is_stopped(untrusted: UntrustedPrograms, source: str) -> None:
    with pytest.raises(TakesTooMuch, match=r"its chat template (takes too long|needs too much memory)"):
        render(untrusted, source)

    assert render(untrusted, "{{ messages[0].content }}") == "Hello"


def test_a_hostile_template_only_fails_its_own_request(untrusted: UntrustedPrograms) -> None:
    hostile = "{% if messages[-1].content == 'loop' %}" + NESTED + "{% endif %}" + MESSAGES
    renderer = PromptRenderer(make_tokenizer(hostile), None, untrusted)

    with pytest.raises(InvalidRequest, match="cannot be used with these messages: its chat template") as refusal:
        renderer.render(Conversation(({"role": "user", "content": "loop"},)))

    assert refusal.value.param == "messages"
    assert renderer.render("Hi").text == "user: Hi\n"


def test_a_cancelled_job_does_not_wait_for_a_template(untrusted: UntrustedPrograms) -> None:
    hostile = "{% if messages[-1].content == 'loop' %}" + NESTED + "{% endif %}" + MESSAGES
    renderer = PromptRenderer(make_tokenizer(hostile), None, untrusted)
    given_up = threading.Event()
    threading.Timer(0.1, given_up.set).start()

    with pytest.raises(GivenUp):  # if it waited, it would be told that the template takes too long
        renderer.render("loop", given_up.is_set)


def test_a_template_that_always_uses_too_much_is_refused_at_load(untrusted: UntrustedPrograms) -> None:
    begin = time.process_time()
    with pytest.raises(TakesTooMuch):
        PromptRenderer(make_tokenizer(NESTED), None, untrusted)

    assert time.process_time() - begin < RENDERING.cpu_s


# Tokenizers


def long_prompts(text: str) -> list[Prompt]:
    return [RawText(text), Conversation(({"role": "user", "content": text},)), text]


@pytest.mark.parametrize("make", [byte_level, byte_fallback, unigram])
def test_a_long_text_has_the_same_tokens_as_in_this_process(helper: Helper, make: Callable[[], Any]) -> None:
    untrusted, tokenizer = UntrustedPrograms(helper), make()
    text = "hello </s> 日本 \x00\ue000 <s>user" * SHORT_TEXT

    for prompt in long_prompts(text):
        there = PromptRenderer(tokenizer, None, untrusted).render(prompt)
        assert there == PromptRenderer(tokenizer).render(prompt)


def test_a_long_text_is_not_encoded_in_the_worker(helper: Helper, monkeypatch: pytest.MonkeyPatch) -> None:
    renderer = PromptRenderer(byte_level(), None, UntrustedPrograms(helper))
    monkeypatch.setattr("models.text.text_encoder.FastEncoding._encode", None)

    for prompt in long_prompts("x" * 10 * SHORT_TEXT):
        assert len(renderer.render(prompt).token_ids) > 10 * SHORT_TEXT


def test_nobody_waits_for_the_text_of_a_cancelled_job(helper: Helper) -> None:
    renderer = PromptRenderer(byte_level(), None, UntrustedPrograms(helper))
    given_up = threading.Event()
    threading.Timer(0.1, given_up.set).start()

    with pytest.raises(GivenUp):
        renderer.render(RawText("x" * 20_000_000), given_up.is_set)


@pytest.mark.parametrize("length", [40, 2 * SHORT_TEXT])
def test_a_text_on_which_the_tokenizer_fails_is_refused(helper: Helper, length: int) -> None:
    """The library stops after a number of steps through a pattern, with an error that is not an `Exception`."""
    tokenizer = byte_level()
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex("(a|aa)+$"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    renderer = PromptRenderer(tokenizer, None, UntrustedPrograms(helper))

    with pytest.raises(InvalidRequest, match="cannot encode this text") as refusal:
        renderer.render(RawText("a" * length + "b"))
    assert refusal.value.param == "prompt"


# Adapters


@pytest.fixture(scope="module")
def shapes() -> Shapes:
    return shapes_of(llama())


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return save_adapter(tmp_path / "mine", llama())


def test_an_adapter_is_checked_as_in_this_process(untrusted: UntrustedPrograms, adapter: Path, shapes: Shapes) -> None:
    assert untrusted.check_adapter(adapter, BASE, shapes) == check_adapter(adapter, BASE, shapes)


def test_the_refusal_of_an_adapter_has_the_same_words(
    untrusted: UntrustedPrograms, adapter: Path, shapes: Shapes
) -> None:
    edit_config(adapter, use_dora=True)
    with pytest.raises(AdapterError) as here:
        check_adapter(adapter, BASE, shapes)
    with pytest.raises(AdapterError) as there:
        untrusted.check_adapter(adapter, BASE, shapes)

    assert str(there.value) == str(here.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"target_modules": r"([a-z_.0-9]+)+\$"},
        {"target_modules": ["q_proj"], "exclude_modules": r"([a-z_.0-9]+)+\$"},
        {"rank_pattern": {r"([a-z_.0-9]+)+\$": 4}},
        {"layers_to_transform": [0], "layers_pattern": r"([a-z_.0-9]+)+\$"},
    ],
)
def test_a_pattern_that_does_not_end_is_stopped(
    untrusted: UntrustedPrograms, adapter: Path, shapes: Shapes, fields: dict[str, object]
) -> None:
    edit_config(adapter, **fields)

    with pytest.raises(AdapterError, match="it takes too long to check which modules"):
        untrusted.check_adapter(adapter, BASE, shapes)


def test_a_load_says_which_part_uses_too_much(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "tiny", chat_template=NESTED)

    with pytest.raises(ModelUnavailable, match=r"its chat template takes too long\. Put another"):
        load_model(str(folder), engine_config(), base_name="tiny")


def test_long_texts_are_encoded_one_at_a_time(helper: Helper, monkeypatch: pytest.MonkeyPatch) -> None:
    renderer = PromptRenderer(byte_level(), None, UntrustedPrograms(helper))
    running, most, call = 0, 0, helper.call

    def counted(*args: Any, **options: Any) -> Any:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            return call(*args, **options)
        finally:
            running -= 1

    monkeypatch.setattr(helper, "call", counted)
    threads = [threading.Thread(target=renderer.render, args=(RawText("x" * 50 * SHORT_TEXT),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert most == 1
