"""From a request to what the model sees."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import TemplateError

from common.errors import InvalidRequest
from common.prompts import Conversation, Prompt, RawText, TokenIds
from SLMInit.chat_template import ChatTemplate, Message, render_chat
from SLMInit.conversation import ConversationEncoder
from SLMInit.errors import UnspellableText
from SLMInit.prompt_template import INSTRUCTION_TEMPLATE
from worker.engine.strangers import TemplateOverLimit
from worker.engine.token_bytes import TokenBytes
from worker.given_up import IsGivenUp, never

RenderChat = Callable[[ChatTemplate, list[Message], IsGivenUp], str]


class RenderedPrompt(NamedTuple):
    """A prompt as text and as token ids."""

    text: str
    token_ids: list[int]


class PromptRenderer:
    """Renders every form of prompt, conversations with one chat template. May be used by several threads.

    The template is the adapter's own if its folder has one, else the tokenizer's, else the instruction template
    that the project trains with. Special tokens in a client's text are plain text.

    Args:
        tokenizer: the model's.
        adapter_dir: the adapter's folder, if there is an adapter.
        render_chat: as `strangers.Strangers.render_chat`. The default is for templates that can be trusted.

    Raises:
        jinja2.TemplateError, TemplateOverLimit, UnspellableText, ValueError: template or tokenizer cannot be used.
    """

    def __init__(self, tokenizer: Any, adapter_dir: Path | None = None, render_chat: RenderChat | None = None) -> None:
        own = adapter_dir and read_chat_template(adapter_dir)
        self.template: str = own or _default_template(tokenizer.chat_template) or INSTRUCTION_TEMPLATE
        self._tokenizer = tokenizer
        self._render_chat = render_chat or _render_here
        self._conversations = ConversationEncoder(tokenizer, self.template, partial(self._render_within, never))
        self._token_bytes = TokenBytes(tokenizer, frozenset(tokenizer.all_special_ids), self._text)

    def render(self, prompt: Prompt, is_given_up: IsGivenUp = never) -> RenderedPrompt:
        """Render the prompt; an instruction is a conversation of one message.

        Raises:
            InvalidRequest: the template has no place for these messages or refuses them, e.g. for the order of their
                roles, or takes too much; or the tokenizer has no such token, or none for this text.
            GivenUp: `is_given_up` became true first.
        """
        match prompt:
            case RawText(text):
                return RenderedPrompt(text, self._encode(text))
            case TokenIds(ids):
                return RenderedPrompt(self._decode(ids), list(ids))
            case Conversation(messages):
                return self._converse(list(messages), is_given_up)
            case instruction:
                return self._converse([{"role": "user", "content": instruction}], is_given_up)

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """The text of each token by itself; U+FFFD stands for what is no whole character."""
        return [self._token_bytes.of(token_id).decode(errors="replace") for token_id in ids]

    def _encode(self, text: str) -> list[int]:
        """With the special tokens that the tokenizer puts around a text, such as a start token."""
        try:
            return self._conversations.texts.text_ids(text)
        except UnspellableText as error:
            raise InvalidRequest(str(error), param="prompt") from error

    def _decode(self, ids: Sequence[int]) -> str:
        size = len(self._tokenizer)
        if unknown := [token_id for token_id in ids if not 0 <= token_id < size]:
            raise InvalidRequest(
                f"The prompt's token ids must be from 0 to {size - 1}; got {unknown[0]}.", param="prompt"
            )
        return self._text(list(ids))

    def _text(self, ids: list[int]) -> str:
        text: str = self._tokenizer.decode(ids, clean_up_tokenization_spaces=False)
        return text

    def _converse(self, messages: list[Message], is_given_up: IsGivenUp) -> RenderedPrompt:
        try:
            return RenderedPrompt(*self._conversations.encode(messages, partial(self._render_within, is_given_up)))
        except TemplateOverLimit as error:
            raise InvalidRequest(
                f"The model's chat template cannot be used for these messages: {error}.", param="messages"
            ) from error
        except TemplateError as error:
            raise InvalidRequest(
                f"The model's chat template refuses these messages: {error}", param="messages"
            ) from error
        except UnspellableText as error:
            raise InvalidRequest(str(error), param="messages") from error

    def _render_within(self, is_given_up: IsGivenUp, template: ChatTemplate, messages: list[Message]) -> str:
        return self._render_chat(template, messages, is_given_up)


def _render_here(template: ChatTemplate, messages: list[Message], _is_given_up: IsGivenUp) -> str:
    return render_chat(template, messages)


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
