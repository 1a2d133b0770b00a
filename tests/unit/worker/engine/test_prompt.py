from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jinja2 import TemplateError

from common.errors import InvalidRequest
from common.jobs.prompts import Conversation, Message, Prompt, RawText, TokenIds, from_wire, to_wire
from models.text.plain_tokenizer import PlainTokenizer, TokenizerState
from tests.unit.worker.engine.tiny_models import make_tokenizer
from worker.engine.prompts.middle import middle_form
from worker.engine.prompts.prompt import PromptRenderer

CHAT = (
    "<s>{% for message in messages %}{{ message['role'] + ': ' + message['content'] }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
OWN = "{% for message in messages %}[{{ message['content'] }}]{% endfor %}"
INSTRUCTION = "### Instruction:\nHi\n\n### Response:\n"
EVERY_ROLE = "{% for one in messages %}{{ one.role }}: {{ one.content }}\n{% endfor %}"
ONLY_USERS = "{% for one in messages if one.role == 'user' %}{{ one.content }}\n{% endfor %}"


def encode(text: str) -> list[int]:
    token_ids: list[int] = make_tokenizer().encode(text, add_special_tokens=False)
    return token_ids


def conversation(**turns: str) -> tuple[Message, ...]:
    return tuple({"role": role, "content": content} for role, content in turns.items())


def write_json_config(folder: Path, templates: Any) -> None:
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": templates}))


def test_a_model_without_a_template_gets_the_instruction_template() -> None:
    text, token_ids = PromptRenderer(make_tokenizer()).render("Hi")

    assert text == INSTRUCTION
    assert token_ids == [make_tokenizer().bos_token_id, *encode(INSTRUCTION)]


def test_the_base_models_template_is_used_with_its_start_token_once() -> None:
    text, token_ids = PromptRenderer(make_tokenizer(CHAT)).render("Hi")

    assert text == "<s>user: Hi<|im_end|>assistant: "
    assert token_ids == encode(text)
    assert token_ids.count(make_tokenizer().bos_token_id) == 1


@pytest.mark.parametrize(
    "templates", [OWN, [{"name": "tool_use", "template": "x"}, {"name": "default", "template": OWN}]]
)
def test_the_adapters_own_template_comes_first(tmp_path: Path, templates: Any) -> None:
    write_json_config(tmp_path, templates)

    assert PromptRenderer(make_tokenizer(CHAT), tmp_path).render("Hi").text == "[Hi]"


def test_the_adapters_template_file_comes_before_its_config(tmp_path: Path) -> None:
    write_json_config(tmp_path, "config {{ messages[0]['content'] }}")
    (tmp_path / "chat_template.jinja").write_text("file {{ messages[0]['content'] }}")

    assert PromptRenderer(make_tokenizer(), tmp_path).render("Hi").text == "file Hi"


def test_an_adapter_without_a_template_leaves_the_base_models(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text("{}")

    assert PromptRenderer(make_tokenizer(CHAT), tmp_path).render("Hi").text.startswith("<s>user: Hi")


def test_a_template_saved_with_a_tokenizer_is_found(tmp_path: Path) -> None:
    make_tokenizer(OWN).save_pretrained(tmp_path)

    assert PromptRenderer(make_tokenizer(CHAT), tmp_path).render("Hi").text == "[Hi]"


def test_a_tokenizer_with_several_templates_uses_the_one_for_conversation() -> None:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = {"tool_use": "x", "default": OWN}

    assert PromptRenderer(tokenizer).render("Hi").text == "[Hi]"


def test_a_conversation_is_rendered_turn_by_turn() -> None:
    talk = conversation(system="Be brief", user="Hi", assistant="Hello") + conversation(user="Bye")

    text, token_ids = PromptRenderer(make_tokenizer(CHAT)).render(Conversation(talk))

    assert text == (
        "<s>system: Be brief<|im_end|>user: Hi<|im_end|>assistant: Hello<|im_end|>user: Bye<|im_end|>assistant: "
    )
    assert token_ids == encode(text)


def test_a_client_can_set_variables_of_the_template() -> None:
    template = CHAT + "{% if enable_thinking is false %}(no thoughts){% endif %}"
    talk = conversation(user="Hi")
    variables = {"enable_thinking": False}
    renderer = PromptRenderer(make_tokenizer(template))
    assert renderer.render(from_wire(to_wire(Conversation(talk, variables=variables)))).text.endswith("(no thoughts)")
    assert not renderer.render(from_wire(to_wire(Conversation(talk)))).text.endswith("(no thoughts)")


def test_a_conversation_reaches_the_instruction_template_in_full() -> None:
    talk = conversation(system="Be brief", user="Hi", assistant="Hello") + conversation(user="Bye")

    assert PromptRenderer(make_tokenizer()).render(Conversation(talk)).text == (
        "Be brief\n\n### Instruction:\nHi\n\n### Response:\nHello</s>\n\n### Instruction:\nBye\n\n### Response:\n"
    )


def test_a_raw_text_goes_without_the_template() -> None:
    tokenizer = make_tokenizer(CHAT)

    assert PromptRenderer(tokenizer).render(RawText("Hi")) == ("Hi", [tokenizer.bos_token_id, *encode("Hi")])
    assert PromptRenderer(tokenizer).render(RawText("Hi", is_bare=True)) == ("Hi", encode("Hi"))


@pytest.mark.parametrize("prompt", [RawText, str, lambda text: Conversation(conversation(system=text, user=text))])
def test_a_special_token_in_a_clients_text_is_text(prompt: Callable[[str], Prompt]) -> None:
    tokenizer = make_tokenizer(CHAT)
    renderer = PromptRenderer(tokenizer)
    special = [tokenizer.bos_token_id, *map(tokenizer.convert_tokens_to_ids, ("<|im_end|>", "</s>"))]

    text, token_ids = renderer.render(prompt("a<|im_end|></s><s>b"))
    _, expected_ids = renderer.render(prompt("ab"))

    assert "a<|im_end|></s><s>b" in text
    assert [one for one in token_ids if one in special] == [one for one in expected_ids if one in special]
    assert "a<|im_end|></s><s>b" in tokenizer.decode(token_ids)


def with_middle(*names: str) -> Any:
    tokenizer = make_tokenizer()
    tokenizer.add_tokens([*names, "<|fim_pad|>"])
    return tokenizer


@pytest.mark.parametrize(
    "names",
    [("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"), ("\u2581<PRE>", "\u2581<SUF>", "\u2581<MID>")],
    ids=["qwen", "code_llama"],
)
def test_a_text_with_a_suffix_is_written_with_the_tokens_for_the_middle(names: tuple[str, str, str]) -> None:
    tokenizer = with_middle(*names)
    first, second, third = tokenizer.convert_tokens_to_ids(list(names))
    renderer, prompt = PromptRenderer(tokenizer), RawText("Hi", "!")
    text, token_ids = renderer.render(prompt)
    assert text == f"{names[0]}Hi{names[1]}!{names[2]}"
    assert token_ids == [tokenizer.bos_token_id, first, *encode("Hi"), second, *encode("!"), third]
    assert renderer.end_ids(prompt) == (tokenizer.convert_tokens_to_ids("<|fim_pad|>"),)
    assert renderer.end_ids(RawText("Hi")) == ()


def test_the_suffix_comes_first_for_mistrals_models() -> None:
    tokenizer = with_middle("[SUFFIX]", "[PREFIX]")
    suffix, prefix = tokenizer.convert_tokens_to_ids(["[SUFFIX]", "[PREFIX]"])
    text, token_ids = PromptRenderer(tokenizer).render(RawText("Hi", "!"))
    assert text == "[SUFFIX]![PREFIX]Hi"
    assert token_ids == [tokenizer.bos_token_id, suffix, *encode("!"), prefix, *encode("Hi")]


def test_a_tokenizer_without_transformers_has_the_same_tokens_for_the_middle() -> None:
    tokenizer = with_middle("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")
    state = TokenizerState.of(tokenizer)
    assert state is not None
    form = middle_form(tokenizer)
    assert form is not None
    assert middle_form(PlainTokenizer(state)) == form


def test_a_suffix_is_refused_without_tokens_for_the_middle() -> None:
    renderer = PromptRenderer(with_middle("<|fim_prefix|>", "<|fim_suffix|>"))
    with pytest.raises(InvalidRequest, match="suffix cannot be used with this model") as caught:
        renderer.render(RawText("Hi", "!"))
    assert caught.value.param == "suffix"


def test_token_ids_stay_as_they_are() -> None:
    assert PromptRenderer(make_tokenizer(CHAT)).render(TokenIds((39, 72))) == ("Hi", [39, 72])


def test_each_token_is_returned_by_itself() -> None:
    renderer = PromptRenderer(make_tokenizer(CHAT))
    end_id = make_tokenizer().convert_tokens_to_ids("<|im_end|>")

    assert renderer.tokens([*encode("H"), end_id]) == ["H", "<|im_end|>"]
    assert renderer.names([*encode("H"), end_id]) == ["H", "<|im_end|>"]
    assert renderer.tokens(encode("H")) == ["H"]
    assert set(renderer.tokens(encode("é"))) == {"\ufffd"}


def test_facts_about_the_tokenizer() -> None:
    about = PromptRenderer(make_tokenizer(CHAT)).about()
    end_id = make_tokenizer().convert_tokens_to_ids("<|im_end|>")
    assert about["chat_template"] == CHAT
    assert about["added_tokens_decoder"][str(end_id)]["content"] == "<|im_end|>"
    assert json.loads(json.dumps(about)) == about


def test_a_role_of_the_template_alone_is_rendered_and_another_refused() -> None:
    critic = Conversation(({"role": "user", "content": "Hi"}, {"role": "critic", "content": "No"}))
    assert "critic" in PromptRenderer(make_tokenizer(EVERY_ROLE)).render(critic).text
    with pytest.raises(InvalidRequest, match="does not support the role 'critic'"):
        PromptRenderer(make_tokenizer(ONLY_USERS)).render(critic)


def test_only_a_few_roles_of_its_own_are_tried() -> None:
    many = Conversation(tuple({"role": f"role-{number}", "content": "Hi"} for number in range(9)))
    with pytest.raises(InvalidRequest, match="more than 8 roles"):
        PromptRenderer(make_tokenizer(EVERY_ROLE)).render(many)


@pytest.mark.parametrize("token_id", [-1, 10_000_000])
def test_a_token_that_the_tokenizer_lacks_is_the_clients_fault(token_id: int) -> None:
    with pytest.raises(InvalidRequest, match=rf"from 0 to \d+; got {token_id}"):
        PromptRenderer(make_tokenizer()).render(TokenIds((39, token_id)))


@pytest.mark.parametrize("role", ["system", "assistant", "user"])
def test_a_role_that_the_template_would_leave_out_is_refused(role: str) -> None:
    others = "{% for message in messages if message['role'] != '" + role + "' %}{{ message['content'] }}{% endfor %}"
    renderer = PromptRenderer(make_tokenizer(others))

    with pytest.raises(InvalidRequest, match=f"does not support the role '{role}'") as refusal:
        renderer.render(Conversation(conversation(**{role: "x"}, other="Hi")))
    assert refusal.value.param == "messages"
    assert renderer.render(Conversation(conversation(other="Hi"))).text == "Hi"


def each(content: str) -> str:
    return "{% for m in messages %}{{ m['role'] }}:" + content + ";{% endfor %}"


TEXT, FIRST_PART = "{{ m['content'] }}", "{{ m['content'][0]['text'] }}"
PARTS = "{% for part in m['content'] %}{{ part['text'] }}{% endfor %}"
DEMAND = "{% if messages[0]['role'] != 'system' %}{{ raise_exception('needs a system message') }}{% endif %}"


@pytest.mark.parametrize(
    "template",
    [
        each(PARTS),
        each(PARTS.replace("in m['content']", "in m['content'] | selectattr('type', 'equalto', 'text')")),
        each(FIRST_PART),
        each("{% if m['content'] is string %}" + TEXT + "{% else %}" + FIRST_PART + "{% endif %}"),
        each("{% if m['role'] == 'system' %}" + TEXT + "{% else %}" + FIRST_PART + "{% endif %}"),
        DEMAND + each(PARTS),
    ],
)
def test_a_template_that_takes_content_as_a_list_of_parts_shows_the_users_words(template: str) -> None:
    renderer = PromptRenderer(make_tokenizer(template))
    talk = conversation(system="Be brief", user="Hi<|im_end|>", assistant="Hello")

    text, token_ids = renderer.render(Conversation((*talk, {"role": "user", "content": "Bye"})))

    assert text == "system:Be brief;user:Hi<|im_end|>;assistant:Hello;user:Bye;"
    assert token_ids == [make_tokenizer().convert_tokens_to_ids(char) for char in text.replace(" ", "Ġ")]


def test_a_template_may_change_the_users_words() -> None:
    loud = "{% for m in messages %}{{ m['role'] }}:{{ m['content'].upper() | trim }};{% endfor %}"

    text, _ = PromptRenderer(make_tokenizer(loud)).render(Conversation(conversation(system=" a ", user="b")))

    assert text == "system:A;user:B;"


def test_a_template_that_insists_on_a_system_message_is_served_with_one() -> None:
    renderer = PromptRenderer(make_tokenizer(DEMAND + OWN))

    assert renderer.render(Conversation(conversation(system="S", user="Hi"))).text == "[S][Hi]"
    with pytest.raises(InvalidRequest, match="needs a system message"):
        renderer.render("Hi")


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        ("raise_exception('no system role')", "no system role"),
        ("messages[0]['content'] + 1", "TypeError"),
        ("1 / 0", "ZeroDivisionError"),
        ("messages[0]['content'].nothing.more", "no attribute 'nothing'"),
    ],
)
def test_messages_that_the_template_refuses_or_fails_on_are_the_clients_fault(failure: str, reason: str) -> None:
    template = "{% if messages[0]['role'] == 'system' %}{{ " + failure + " }}{% endif %}" + OWN
    renderer = PromptRenderer(make_tokenizer(template))

    with pytest.raises(InvalidRequest, match=reason) as refusal:
        renderer.render(Conversation(conversation(system="Hi", user="x")))
    assert refusal.value.param == "messages"


@pytest.mark.parametrize("template", ["{% for", "{{ undefined_fn(1) }}", "{{ tools | length }}"])
def test_a_template_that_always_fails_is_noticed_at_load(template: str) -> None:
    with pytest.raises(TemplateError):
        PromptRenderer(make_tokenizer(template))


def test_several_threads_may_render_at_once() -> None:
    renderer = PromptRenderer(make_tokenizer(CHAT))
    found: dict[int, set[tuple[int, ...]]] = {index: set() for index in range(4)}

    def render(index: int) -> None:
        for _ in range(25):
            found[index].add(tuple(renderer.render(f"text {index} " * 20).token_ids))

    threads = [threading.Thread(target=render, args=(index,)) for index in found]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [len(token_ids) for token_ids in found.values()] == [1] * 4
    assert len(set.union(*found.values())) == 4
