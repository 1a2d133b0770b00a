"""Rendering chat templates without importing all of transformers."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from models.text.chat_template import ChatTemplate, render_chat

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Grüße <&> \u2028"}]
LAST = [*MESSAGES, {"role": "assistant", "content": "So it"}]
CHATML = (
    "{%- for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
    "{%- endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TOOLS = [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}]
PROGRAM = """
import json, sys
from models.text import template_engine
template_engine.load_alone()
from models.text.chat_template import ChatTemplate, render_chat
source, variables, messages = json.load(sys.stdin)
text = render_chat(ChatTemplate(source, variables), messages)
loaded = "transformers" in sys.modules
import transformers.utils  # the package can still be imported
json.dump([text, loaded, transformers.__version__], sys.stdout)
"""


@pytest.mark.parametrize(
    ("source", "variables", "messages"),
    [
        pytest.param(CHATML, {"bos_token": "<s>"}, MESSAGES, id="a-usual-template"),
        pytest.param(CHATML, {"continue_final_message": True, "add_generation_prompt": False}, LAST, id="a-last-turn"),
        pytest.param("{{ tools | tojson(indent=2) }}{{ messages | tojson }}", {"tools": TOOLS}, MESSAGES, id="filters"),
        pytest.param(
            "{% for m in messages %}{% if loop.last %}{% break %}{% endif %}{% generation %}x{% endgeneration %}"
            "{% endfor %}{{ strftime_now('%') }}",
            {},
            MESSAGES,
            id="tags-and-functions",
        ),
    ],
)
def test_the_function_alone_renders_as_with_all_of_its_package(
    source: str, variables: dict[str, Any], messages: list[dict[str, str]]
) -> None:
    import transformers

    sent = json.dumps([source, variables, messages])
    done = subprocess.run([sys.executable, "-c", PROGRAM], input=sent, capture_output=True, text=True, check=True)
    expected = render_chat(ChatTemplate(source, variables), messages)
    assert json.loads(done.stdout) == [expected, False, transformers.__version__]
