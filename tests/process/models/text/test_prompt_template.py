"""The training prompt as a chat template, rendered by `apply_chat_template`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment

from models.text.prompt_template import INSTRUCTION_TEMPLATE

Render = Callable[..., str]


@pytest.fixture
def render() -> Render:
    """Render the template in the environment that transformers builds for chat templates."""
    template = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(INSTRUCTION_TEMPLATE)

    def render(*turns: tuple[str, str], ask: bool = False, **special: str) -> str:
        messages = [{"role": role, "content": content} for role, content in turns]
        return template.render(messages=messages, add_generation_prompt=ask, **({"eos_token": "<eos>"} | special))

    return render


def test_a_question_ends_where_the_model_begins_to_answer(render: Render) -> None:
    assert render(("user", "What is LoRA?"), ask=True) == "### Instruction:\nWhat is LoRA?\n\n### Response:\n"


def test_a_pair_is_the_training_text_and_ends_with_the_end_of_text_token(render: Render) -> None:
    text = render(("user", "Hi"), ("assistant", "Hello."))
    assert text == "### Instruction:\nHi\n\n### Response:\nHello.<eos>"


def test_the_content_is_used_unchanged(render: Render) -> None:
    content = "  {{ x }} <b>&amp;</b>\n\n{% raw %}\t "
    assert render(("user", content), ask=True) == f"### Instruction:\n{content}\n\n### Response:\n"


def test_a_further_question_is_separated_from_the_answer_before(render: Render) -> None:
    text = render(("user", "A"), ("assistant", "B"), ("user", "C"), ask=True)
    assert text == ("### Instruction:\nA\n\n### Response:\nB<eos>\n\n### Instruction:\nC\n\n### Response:\n")


def test_a_system_turn_comes_before_the_first_instruction(render: Render) -> None:
    assert render(("system", "Be brief."), ("user", "A")) == "Be brief.\n\n### Instruction:\nA\n\n"


def test_a_tokenizer_without_an_end_of_text_token_can_still_ask(render: Render) -> None:
    assert render(("user", "A"), ("assistant", "B"), eos_token="").endswith("### Response:\nB")


def test_the_modules_that_the_server_imports_load_no_model_library() -> None:
    code = (
        "import sys, models.text.prompt_template, models.adapter.check, models.base_model\n"
        "print(sorted({'torch', 'transformers', 'peft', 'safetensors', 'huggingface_hub'} & set(sys.modules)))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert loaded.strip() == "[]"
