"""From a request to what the model sees."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import TemplateError

from common.errors import InvalidRequest
from common.prompts import Conversation, Prompt, RawText, TokenIds
from SLMInit.chat_template import ChatTemplate, Message, render_chat
from SLMInit.conversation import ConversationEncoder, text_of
from SLMInit.errors import UnspellableText
from SLMInit.prompt_template import INSTRUCTION_TEMPLATE
from worker.engine.strangers import TemplateOverLimit
from worker.engine.token_bytes import TokenBytes
from worker.engine.token_length import TokenLength
from worker.given_up import IsGivenUp, never, wait_for
from worker.priority import call_at_low_priority

RenderChat = Callable[[ChatTemplate, list[Message], IsGivenUp], str]
CheckLength = Callable[[int], None]

SHORT_TEXT = 16_384  # characters, which are encoded within 10 ms


def _take_any(_num_tokens: int) -> None:
    """Any length is right."""


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
        self._length = TokenLength(tokenizer)

    def render(
        self, prompt: Prompt, is_given_up: IsGivenUp = never, check_length: CheckLength = _take_any
    ) -> RenderedPrompt:
        """Render the prompt; an instruction is a conversation of one message.

        Args:
            prompt: the prompt.
            is_given_up: whether nobody waits for it any more.
            check_length: called with the number of tokens that it certainly has, before it is encoded; what it raises
                is raised.

        Raises:
            InvalidRequest: the template has no place for these messages or refuses them, e.g. for the order of their
                roles, or takes too much; or the tokenizer has no such token, or none for this text.
            GivenUp: `is_given_up` became true first.
        """
        encoder = _Encoder(is_given_up, check_length, self._length)
        match prompt:
            case RawText(text):
                return RenderedPrompt(text, self._encode(text, encoder))
            case TokenIds(ids):
                check_length(len(ids))
                return RenderedPrompt(self._decode(ids), list(ids))
            case Conversation(messages):
                return self._converse(list(messages), encoder)
            case instruction:
                return self._converse([{"role": "user", "content": instruction}], encoder)

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """The text of each token by itself; U+FFFD stands for what is no whole character."""
        return [self._token_bytes.of(token_id).decode(errors="replace") for token_id in ids]

    def _encode(self, text: str, encoder: _Encoder) -> list[int]:
        """With the special tokens that the tokenizer puts around a text, such as a start token."""
        try:
            return encoder.encode(text, lambda: self._conversations.texts.text_ids(text))
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

    def _converse(self, messages: list[Message], encoder: _Encoder) -> RenderedPrompt:
        try:
            segments = self._conversations.segments(messages, partial(self._render_within, encoder.is_given_up))
            text = text_of(segments)
            return RenderedPrompt(text, encoder.encode(text, lambda: self._conversations.ids(segments)))
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


@dataclass(frozen=True, slots=True)
class _Encoder:
    """How one prompt's text is encoded: not at all if it is too long, and long ones without hurry."""

    is_given_up: IsGivenUp
    check_length: CheckLength
    length: TokenLength

    def encode(self, text: str, encode: Callable[[], list[int]]) -> list[int]:
        """Call `encode`, which makes ids of the text: outside Python, where threads have priorities."""
        self.check_length(self.length.least_tokens(text))
        return encode() if len(text) <= SHORT_TEXT else wait_for(call_at_low_priority(encode), self.is_given_up)


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
