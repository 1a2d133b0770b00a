"""Prompts with tools, for templates in the forms of common models and for those that know no tools."""

from __future__ import annotations

from typing import Any

import pytest

from common.jobs.prompts import Conversation, Message
from common.jobs.sampling import Grammar, GrammarKind
from common.jobs.tools import HERMES, LLAMA, MISTRAL, Function, ToolForm, ToolRules
from tests.unit.worker.engine.tiny_models import make_tokenizer
from worker.engine.prompts.prompt import PromptRenderer

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
)
WITHOUT_SYSTEM = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
)
QWEN = (
    "{% if tools %}<|im_start|>system\n<tools>{% for t in tools %}\n{{ t | tojson }}{% endfor "
    "%}\n</tools><|im_end|>\n{% endif %}"
    "{% for m in messages %}{% if m.role == 'tool' %}<|im_start|>user\n<tool_response>\n{{ m.content "
    "}}\n</tool_response>"
    "<|im_end|>\n{% elif m.tool_calls %}<|im_start|>assistant{% if m.content %}\n{{ m.content }}{% endif %}"
    '{% for c in m.tool_calls %}{% set c = c.function %}\n<tool_call>\n{"name": "{{ c.name }}", "arguments": '
    "{{ c.arguments | tojson }}}\n</tool_call>{% endfor %}<|im_end|>\n{% else %}<|im_start|>{{ m.role "
    "}}\n{{ m.content }}"
    "<|im_end|>\n{% endif %}{% endfor %}<|im_start|>assistant\n"
)
LLAMA3 = (
    "{% for m in messages %}{% if loop.first and tools %}{% for t in tools %}{{ t | tojson(indent=4) }}\n{% "
    "endfor %}{% endif %}"
    "<|start|>{{ m.role if m.role != 'tool' else 'ipython' }}<|end|>\n\n{% if m.tool_calls %}"
    "{% if m.tool_calls | length != 1 %}{{ raise_exception('one call at once') }}{% endif %}"
    '{% set c = m.tool_calls[0].function %}{"name": "{{ c.name }}", "parameters": {{ c.arguments | tojson }}}'
    "{% else %}{{ m.content }}{% endif %}<|eot|>{% endfor %}<|start|>assistant<|end|>\n\n"
)
MISTRAL3 = (
    "{% for m in messages %}{% if m.role == 'user' %}{% if tools %}[AVAILABLE_TOOLS] {{ tools | tojson }}"
    "[/AVAILABLE_TOOLS]{% endif %}[INST] {{ m.content }}[/INST]{% elif m.tool_calls %}[TOOL_CALLS] ["
    "{% for c in m.tool_calls %}{% if c.id | length != 9 %}{{ raise_exception('ids have 9 characters') }}{% endif %}"
    '{{ (c.function | tojson)[:-1] }}, "id": "{{ c.id }}"}{{ \', \' if not loop.last }}{% endfor %}]</s>'
    '{% elif m.role == \'tool\' %}[TOOL_RESULTS] {"content": {{ m.content | tojson }}, "call_id": "{{ '
    'm.tool_call_id }}"}'
    "[/TOOL_RESULTS]{% else %} {{ m.content }}</s>{% endif %}{% endfor %}"
)
UNKNOWN_FORM = (
    "{% for t in tools or [] %}{{ t | tojson }}{% endfor %}{% for m in messages %}[{{ m.role }}]{{ m.content }}"
    "{% for c in m.tool_calls or [] %}<function={{ c.function.name }}>{{ c.function.arguments | tojson }}{% "
    "endfor %}{% endfor %}"
)
FAILING = "{% for m in messages %}{{ m.role + m.content }}{{ 1 // 0 if tools else '' }}{% endfor %}"

TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def call(**arguments: Any) -> dict[str, Any]:
    return {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": arguments}}


ASKED: list[Message] = [{"role": "user", "content": "Is it raining?"}]
ANSWERED: list[Message] = [
    *ASKED,
    {"role": "assistant", "content": "", "tool_calls": [call(city="Paris")]},
    {"role": "tool", "content": "Rain", "tool_call_id": "call_1"},
]


def render(template: str, messages: list[Message], *tools: dict[str, Any]) -> str:
    return PromptRenderer(make_tokenizer(template)).render(Conversation(tuple(messages), tools)).text


@pytest.mark.parametrize(("template", "form"), [(QWEN, HERMES), (LLAMA3, LLAMA), (MISTRAL3, MISTRAL)])
def test_a_template_s_form_is_recognised_and_it_renders_the_tools(template: str, form: ToolForm) -> None:
    assert PromptRenderer(make_tokenizer(template)).tool_form == form

    text = render(template, ANSWERED, TOOL)

    assert "Tells the weather" in text
    assert f'{form.call_beginning("weather")}{{"city": "Paris"}}' in text
    assert "Rain" in text
    assert "You may call one or more functions" not in text


@pytest.mark.parametrize("template", [CHATML, UNKNOWN_FORM, FAILING])
def test_other_templates_get_a_preamble_in_the_system_message(template: str) -> None:
    assert PromptRenderer(make_tokenizer(template)).tool_form == HERMES

    system: Message = {"role": "system", "content": "Be brief."}
    text = render(template, [system, *ANSWERED], TOOL)

    assert "Be brief.\n\n# Tools" in text
    assert '"description": "Tells the weather"' in text
    assert '<tool_call>\n{"name": "weather", "arguments": {"city": "Paris"}}\n</tool_call>' in text
    assert "<tool_response>\nRain\n</tool_response>" in text
    assert text.index("Is it raining?") > text.index("# Tools")


def test_without_a_system_message_there_is_one_or_the_first_of_the_user_begins_with_it() -> None:
    assert render(CHATML, ASKED, TOOL).startswith("<|im_start|>system\n# Tools")
    assert render(WITHOUT_SYSTEM, ASKED, TOOL).startswith("[user]# Tools")


def test_adjacent_results_are_one_message() -> None:
    second: Message = {"role": "tool", "content": "Sun", "tool_call_id": "call_2"}
    text = render(CHATML, [*ANSWERED, second], TOOL)
    assert "user\n<tool_response>\nRain\n</tool_response>\n<tool_response>\nSun\n</tool_response><|im_end|>" in text


def test_an_earlier_call_is_rendered_although_no_tool_is_left() -> None:
    text = render(CHATML, ANSWERED)
    assert '<tool_call>\n{"name": "weather"' in text
    assert "# Tools" not in text


def test_a_broken_call_is_rendered_as_it_is() -> None:
    broken: Message = {"role": "assistant", "content": "", "tool_calls": [call()]}
    broken["tool_calls"][0]["function"]["arguments"] = '{"city": "Pa'
    assert '"arguments": {"city": "Pa}' in render(CHATML, [*ASKED, broken])


def test_a_call_and_its_result_have_the_same_short_id() -> None:
    text = render(MISTRAL3, ANSWERED, TOOL)
    call_id = text.partition('"id": "')[2][:9]
    assert f'"call_id": "{call_id}"' in text


@pytest.mark.parametrize("template", [QWEN, CHATML])
def test_special_tokens_in_tools_and_calls_are_text(template: str) -> None:
    renderer = PromptRenderer(make_tokenizer(template))
    end = "<|im_end|>"
    bad = {"type": "function", "function": TOOL["function"] | {"description": end, "parameters": {end: end}}}
    messages: list[Message] = [*ASKED, {"role": "assistant", "content": "", "tool_calls": [call(**{end: end})]}]
    end_id = make_tokenizer(template).convert_tokens_to_ids(end)

    def count(*tools: dict[str, Any], conversation: list[Message]) -> int:
        return renderer.render(Conversation(tuple(conversation), tools)).token_ids.count(end_id)

    harmless: list[Message] = [*ASKED, {"role": "assistant", "content": "", "tool_calls": [call(city="Paris")]}]
    assert count(bad, conversation=messages) == count(TOOL, conversation=harmless)


def test_a_grammar_of_tools_gets_the_form_and_others_stay() -> None:
    renderer = PromptRenderer(make_tokenizer(LLAMA3))
    rules = ToolRules((Function("f", {}, strict=False),), must_call=True)
    assert ToolRules.of(renderer.in_form(rules.grammar())).form == "llama"
    other = Grammar(GrammarKind.JSON_OBJECT)
    assert renderer.in_form(other) == other
