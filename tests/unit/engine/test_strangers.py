"""Templates and patterns that came with a model or adapter are programs of strangers: they may not end."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from jinja2 import TemplateError

from common.errors import InvalidRequest, ModelUnavailable
from common.prompts import Conversation
from SLMInit.adapter_check import AdapterError, check_adapter
from SLMInit.chat_template import ChatTemplate, render_chat
from tests.sliminit_models import llama
from tests.unit.engine.tiny_models import make_tokenizer, save_model
from tests.unit.test_sliminit_adapter_check import BASE, Shapes, edit_config, save_adapter, shapes_of
from worker.engine.loader import load_model
from worker.engine.prompt import PromptRenderer
from worker.engine.strangers import RENDERING, Strangers, TemplateOverLimit
from worker.engine.untrusted import SERVICES
from worker.given_up import GivenUp
from worker.helper.client import Helper

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")

HELLO = [{"role": "user", "content": "Hello"}]
MESSAGES = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
NESTED = "{% for a in range(99999) %}" * 4 + "{% set b = a %}" + "{% endfor %}" * 4
# Each of them hangs or fills up whoever renders it: only on one message, so that it passes at load.
HOSTILE = [
    NESTED,
    "{{ 10**(10**9) }}",
    "{{ 'x' * 10**10 }}",
    "{% set s = namespace(t='x') %}{% for _ in range(99) %}{% set s.t = s.t ~ s.t %}{% endfor %}",
    "{{ '%9999999999d' % 1 }}",
]


@pytest.fixture(scope="module")
def strangers() -> Iterator[Strangers]:
    helper = Helper(SERVICES)
    yield Strangers(helper)
    helper.close()


def render(strangers: Strangers, source: str) -> str:
    return strangers.render_chat(ChatTemplate(source, {"eos_token": "</s>"}), HELLO)


# Templates


def test_a_template_is_rendered_as_here(strangers: Strangers) -> None:
    template = ChatTemplate(MESSAGES + "{{ eos_token }}", {"eos_token": "</s>"})
    messages = [*HELLO, {"role": "assistant", "content": "日本 \x00 \ue000"}]

    assert strangers.render_chat(template, messages) == render_chat(template, messages)


def test_what_a_template_refuses_is_refused_in_its_words(strangers: Strangers) -> None:
    with pytest.raises(TemplateError, match="no system messages here"):
        render(strangers, "{{ raise_exception('no system messages here') }}")


@pytest.mark.parametrize("source", HOSTILE)
def test_a_template_that_takes_too_much_is_stopped(strangers: Strangers, source: str) -> None:
    with pytest.raises(TemplateOverLimit, match=r"it (takes too long|needs too much memory)"):
        render(strangers, source)

    assert render(strangers, "{{ messages[0].content }}") == "Hello"


def test_a_hostile_template_costs_one_request_a_400(strangers: Strangers) -> None:
    hostile = "{% if messages[-1].content == 'loop' %}" + NESTED + "{% endif %}" + MESSAGES
    renderer = PromptRenderer(make_tokenizer(hostile), None, strangers.render_chat)

    with pytest.raises(
        InvalidRequest, match="chat template cannot be used for these messages: it takes too"
    ) as refusal:
        renderer.render(Conversation(({"role": "user", "content": "loop"},)))

    assert refusal.value.param == "messages"
    assert renderer.render("Hi").text == "user: Hi\n"


def test_a_job_that_is_given_up_does_not_wait_for_a_template(strangers: Strangers) -> None:
    hostile = "{% if messages[-1].content == 'loop' %}" + NESTED + "{% endif %}" + MESSAGES
    renderer = PromptRenderer(make_tokenizer(hostile), None, strangers.render_chat)
    given_up = threading.Event()
    threading.Timer(0.1, given_up.set).start()

    begin = time.monotonic()
    with pytest.raises(GivenUp):
        renderer.render("loop", given_up.is_set)
    assert time.monotonic() - begin < RENDERING.cpu_s


def test_a_template_that_takes_too_much_at_once_is_refused_when_it_is_loaded(strangers: Strangers) -> None:
    begin = time.process_time()
    with pytest.raises(TemplateOverLimit):
        PromptRenderer(make_tokenizer(NESTED), None, strangers.render_chat)

    assert time.process_time() - begin < RENDERING.cpu_s


# Adapters


@pytest.fixture(scope="module")
def shapes() -> Shapes:
    return shapes_of(llama())


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    return save_adapter(tmp_path / "mine", llama())


def test_an_adapter_is_checked_as_here(strangers: Strangers, adapter: Path, shapes: Shapes) -> None:
    assert strangers.check_adapter(adapter, BASE, shapes) == check_adapter(adapter, BASE, shapes)


def test_an_adapter_that_is_refused_is_refused_in_the_same_words(
    strangers: Strangers, adapter: Path, shapes: Shapes
) -> None:
    edit_config(adapter, use_dora=True)
    with pytest.raises(AdapterError) as here:
        check_adapter(adapter, BASE, shapes)
    with pytest.raises(AdapterError) as there:
        strangers.check_adapter(adapter, BASE, shapes)

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
    strangers: Strangers, adapter: Path, shapes: Shapes, fields: dict[str, object]
) -> None:
    edit_config(adapter, **fields)

    with pytest.raises(AdapterError, match="it takes too long to check which modules"):
        strangers.check_adapter(adapter, BASE, shapes)


def test_a_load_says_in_words_what_takes_too_much(tmp_path: Path) -> None:
    folder = save_model(tmp_path / "tiny", chat_template=NESTED)

    with pytest.raises(ModelUnavailable, match=r"chat template in .* cannot be used, it takes too long"):
        load_model(str(folder), base_name="tiny", device="cpu")
