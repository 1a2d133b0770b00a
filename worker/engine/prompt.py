"""From a request to what the model sees."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import TemplateError

from common.errors import InvalidRequest
from SLMInit.prompt_template import INSTRUCTION_TEMPLATE

Message = dict[str, str]  # role, content


class RenderedPrompt(NamedTuple):
    """A prompt as text and as token ids."""

    text: str
    token_ids: list[int]


class PromptRenderer:
    """Renders instructions and conversations with one chat template. May be used by several threads.

    The template is the adapter's own where its folder has one, else the base tokenizer's, else the instruction template
    that the project trains with. A template writes its special tokens itself, so none are added to its text; special
    tokens in a client's text are taken as plain text.

    Args:
        tokenizer: the base model's.
        adapter_dir: the adapter's folder, if there is an adapter.

    Raises:
        jinja2.TemplateError, ValueError: the template cannot be used.
    """

    def __init__(self, tokenizer: Any, adapter_dir: Path | None = None) -> None:
        own = adapter_dir and read_chat_template(adapter_dir)
        self.template: str = own or _default_template(tokenizer.chat_template) or INSTRUCTION_TEMPLATE
        self._tokenizer = tokenizer
        self._lock = threading.Lock()  # encoding may change the tokenizer's settings for a moment
        self._apply([{"role": "user", "content": "Hello"}], tokenize=False)

    def render(self, prompt: str | list[Message]) -> RenderedPrompt:
        """Render one instruction, or the messages of a conversation that waits for the assistant's next turn.

        Raises:
            InvalidRequest: the template refuses these messages, e.g. for the order of their roles.
        """
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        try:
            text: str = self._apply(messages, tokenize=False)
            with self._lock:
                token_ids: list[int] = self._apply(
                    messages, tokenize=True, return_dict=False, sanitize_control_tokens=True
                )
        except TemplateError as error:
            raise InvalidRequest(f"The model's chat template refuses these messages: {error}") from error
        return RenderedPrompt(text, token_ids)

    def _apply(self, messages: list[Message], **options: Any) -> Any:
        return self._tokenizer.apply_chat_template(
            messages, chat_template=self.template, add_generation_prompt=True, **options
        )


def read_chat_template(folder: Path) -> str | None:
    """The chat template that a tokenizer was saved with, from either of the two places transformers has for it."""
    if (file := folder / "chat_template.jinja").is_file():
        return file.read_text(encoding="utf-8")
    if (file := folder / "tokenizer_config.json").is_file():
        return _default_template(json.loads(file.read_text(encoding="utf-8")).get("chat_template"))
    return None


def _default_template(templates: str | dict[str, str] | list[dict[str, str]] | None) -> str | None:
    """The one for plain conversation, where there are several."""
    if isinstance(templates, list):
        templates = {item["name"]: item["template"] for item in templates}
    return templates.get("default") if isinstance(templates, dict) else templates
