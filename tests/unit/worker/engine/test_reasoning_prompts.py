"""Whether an answer may have reasoning is found from the template and from the prompt."""

from __future__ import annotations

from typing import Any

import pytest

from common.jobs.prompts import Conversation, Ending, RawText
from common.jobs.reasoning import MISTRAL, THINK, Reasoning
from tests.unit.worker.engine.tiny_models import make_tokenizer
from worker.engine.prompts.prompt import PromptRenderer

_TURNS = "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.reasoning_content %}<think>{{ m.reasoning_content }}"
_TURNS += "</think>{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}"
QWEN3 = (
    _TURNS + "{% if add_generation_prompt %}<|im_start|>assistant\n{% if enable_thinking is defined and "
    "enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
DEEPSEEK = (
    "{% for m in messages %}{% set c = m.content.split('</think>')[-1] %}[{{ m.role }}]{{ c }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]<think>\n{% endif %}"
)
MAGISTRAL = "{% for m in messages %}{{ m.content.split('[/THINK]')[-1] }}{% endfor %}"
PLAIN = "{% for m in messages %}{{ m.role }}: {{ m.content }}{% endfor %}"
HI = ({"role": "user", "content": "What does <think> mean?"},)
OFF = {"enable_thinking": False}


def found(template: str, prompt: Any, parser: str = "auto") -> Reasoning | None:
    renderer = PromptRenderer(make_tokenizer(template))
    return renderer.reasoning(prompt, lambda: renderer.render(prompt).text, parser)


@pytest.mark.parametrize(
    ("template", "variables", "expected"),
    [
        (QWEN3, {}, Reasoning(THINK, is_open=False)),
        (QWEN3, OFF, None),
        (DEEPSEEK, {}, Reasoning(THINK, is_open=True)),
        (MAGISTRAL, {}, Reasoning(MISTRAL, is_open=False)),
        (PLAIN, {}, None),
    ],
    ids=["qwen3", "qwen3-off", "deepseek", "magistral", "plain"],
)
def test_the_template_decides(template: str, variables: dict[str, Any], expected: Reasoning | None) -> None:
    assert found(template, Conversation(HI, variables=variables)) == expected


@pytest.mark.parametrize(
    ("begun", "expected"),
    [
        ("", Reasoning(THINK, is_open=False)),
        ("<think>Well", Reasoning(THINK, is_open=True)),
        ("<think>Well</think>So", None),
        ("So", None),
    ],
    ids=["empty", "open", "closed", "text"],
)
def test_an_answer_that_is_continued_may_be_in_its_reasoning(begun: str, expected: Reasoning | None) -> None:
    messages = (*HI, {"role": "assistant", "content": begun or " "})
    assert found(QWEN3, Conversation(messages, ending=Ending.CONTINUE)) == expected


@pytest.mark.parametrize(
    ("parser", "template", "form"),
    [("none", QWEN3, None), ("think", PLAIN, THINK), ("mistral", QWEN3, MISTRAL)],
    ids=["none", "think", "mistral"],
)
def test_the_setting_comes_first(parser: str, template: str, form: Any) -> None:
    reasoning = found(template, Conversation(HI), parser)
    assert (None if reasoning is None else reasoning.form) == form


@pytest.mark.parametrize(
    ("parser", "template"), [("auto", PLAIN), ("none", QWEN3)], ids=["a template without reasoning", "not to be split"]
)
def test_nothing_is_rendered_where_there_can_be_no_reasoning(parser: str, template: str) -> None:
    rendered: list[None] = []
    renderer = PromptRenderer(make_tokenizer(template))
    assert renderer.reasoning(Conversation(HI), lambda: str(rendered.append(None)), parser) is None
    assert rendered == []


def test_raw_text_has_no_reasoning() -> None:
    assert found(QWEN3, RawText("Hi")) is None


def test_tags_that_are_special_tokens_are_known_by_their_ids() -> None:
    tokenizer = make_tokenizer(QWEN3)
    tokenizer.add_tokens(["<think>", "</think>"], special_tokens=True)
    begin, end = tokenizer.convert_tokens_to_ids(["<think>", "</think>"])
    renderer = PromptRenderer(tokenizer)
    expected = Reasoning(THINK, is_open=False, begin_id=begin, end_id=end)
    assert renderer.reasoning(Conversation(HI), str, "auto") == expected


def test_earlier_reasoning_is_shown_to_a_template_that_knows_it() -> None:
    said = {"role": "assistant", "content": "4", "reasoning_content": "2+2 <|im_end|>"}
    renderer = PromptRenderer(make_tokenizer(QWEN3))
    assert "<think>2+2 <|im_end|></think>4" in renderer.render(Conversation((*HI, said, *HI))).text
