"""Renders requests to text and token ids."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import TemplateError

from common.errors import InvalidRequest
from common.jobs.prompts import Conversation, Prompt, RawText, TokenIds
from models.errors import UnspellableText
from models.text.chat_template import ChatTemplate, Message, render_chat
from models.text.conversation import ConversationEncoder, text_of
from models.text.saved_template import chat_template
from models.text.text_encoder import Encode, TextEncoder
from worker.engine.output.token_bytes import TokenBytes
from worker.engine.prompts.token_length import TokenLength
from worker.engine.untrusted_code.client import TakesTooMuch, UntrustedPrograms
from worker.helper.given_up import IsGivenUp, never

CheckLength = Callable[[int], None]

SHORT_TEXT = 16_384  # characters; encoded within 10 ms


def _any_length(_num_tokens: int) -> None:
    """Accept any length."""


class RenderedPrompt(NamedTuple):
    """A prompt as text and as token ids."""

    text: str
    token_ids: list[int]


class TokenizerParts(NamedTuple):
    """The parts of a renderer that depend on its tokenizer, hardly on its template.

    `name`: under which the helper knows the tokenizer of `texts`.
    """

    texts: TextEncoder
    token_bytes: TokenBytes
    length: TokenLength
    name: str


class PromptRenderer:
    """Renders all forms of prompts; conversations with one chat template. Thread-safe.

    The template is the adapter's own if its folder has one, else the tokenizer's, else the instruction template
    that the project uses for training. Special tokens in a client's text are plain text.

    Args:
        tokenizer: the model's.
        adapter_dir: the adapter's folder, if there is an adapter.
        programs: runs the template, and encodes long texts; None for a trusted template and tokenizer.
        like: the parts of a renderer with the same tokenizer, to share memory with; that renderer must live longer.

    Raises:
        jinja2.TemplateError, TakesTooMuch, UnspellableText, ValueError: template or tokenizer cannot be used.
    """

    def __init__(
        self,
        tokenizer: Any,
        adapter_dir: Path | None = None,
        programs: UntrustedPrograms | None = None,
        like: TokenizerParts | None = None,
    ) -> None:
        self.template = chat_template(tokenizer, adapter_dir)
        self._tokenizer = tokenizer
        self._programs = programs
        self._conversations = ConversationEncoder(
            tokenizer, self.template, partial(self._render_within, never), like and like.texts
        )
        self.parts = _parts(tokenizer, self._conversations.texts, like)
        self._is_shared = like is not None and self.parts.name == like.name
        self._is_fast = getattr(tokenizer, "is_fast", False)  # slow tokenizers encode here, in Python

    def render(
        self, prompt: Prompt, is_given_up: IsGivenUp = never, check_length: CheckLength = _any_length
    ) -> RenderedPrompt:
        """Render the prompt; an instruction is a conversation of one message.

        Args:
            prompt: the prompt.
            is_given_up: whether the result is no longer needed.
            check_length: called with a lower bound of the number of tokens before the prompt is encoded; its exceptions
                are passed on.

        Raises:
            InvalidRequest: the template drops or refuses these messages, e.g. for the order of their roles, or exceeds
                a limit; or a token id is unknown, or the tokenizer cannot encode the text.
            GivenUp: `is_given_up` became true first.
        """
        match prompt:
            case RawText(text):
                return RenderedPrompt(text, self._encode(text, is_given_up, check_length))
            case TokenIds(ids):
                check_length(len(ids))
                return RenderedPrompt(self._decode(ids), list(ids))
            case Conversation(messages):
                return self._conversation(list(messages), is_given_up, check_length)
            case instruction:
                return self._conversation([{"role": "user", "content": instruction}], is_given_up, check_length)

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """Return the text of each token; U+FFFD replaces bytes that are not a whole character."""
        return [self.parts.token_bytes.of(token_id).decode(errors="replace") for token_id in ids]

    def close(self) -> None:
        """Free what the helper keeps for it and no other renderer."""
        if self._programs is not None and not self._is_shared:
            self._programs.forget_tokenizer(self.parts.name)

    def _encode(self, text: str, is_given_up: IsGivenUp, check_length: CheckLength) -> list[int]:
        """Encode with the special tokens that the tokenizer adds around a text, such as a start token."""
        check_length(self.parts.length.min_tokens(text))
        try:
            return self._conversations.texts.text_ids(text, self._helper_encoding(text, is_given_up))
        except TakesTooMuch as error:
            raise InvalidRequest(f"The model cannot be used with this text: {error}.", param="prompt") from error
        except UnspellableText as error:
            raise InvalidRequest(str(error), param="prompt") from error

    def _helper_encoding(self, text: str, is_given_up: IsGivenUp) -> Encode | None:
        """Return a function that encodes a long text in the helper; None for a short text."""
        texts, programs = self._conversations.texts, self._programs
        if programs is None or len(text) <= SHORT_TEXT or not self._is_fast:
            return None
        return partial(programs.encode, self.parts.name, lambda: texts.state, is_given_up=is_given_up)

    def _decode(self, ids: Sequence[int]) -> str:
        size = len(self._tokenizer)
        if unknown := [token_id for token_id in ids if not 0 <= token_id < size]:
            raise InvalidRequest(
                f"The prompt's token ids must be from 0 to {size - 1}; got {unknown[0]}.", param="prompt"
            )
        return _decoded(self._tokenizer, list(ids))

    def _conversation(
        self, messages: list[Message], is_given_up: IsGivenUp, check_length: CheckLength
    ) -> RenderedPrompt:
        try:
            segments = self._conversations.segments(messages, partial(self._render_within, is_given_up))
            text = text_of(segments)
            check_length(self.parts.length.min_tokens(text))
            return RenderedPrompt(text, self._conversations.ids(segments, self._helper_encoding(text, is_given_up)))
        except TakesTooMuch as error:
            raise InvalidRequest(f"The model cannot be used with these messages: {error}.", param="messages") from error
        except TemplateError as error:
            raise InvalidRequest(
                f"The model's chat template refuses these messages: {error}", param="messages"
            ) from error
        except UnspellableText as error:
            raise InvalidRequest(str(error), param="messages") from error

    def _render_within(self, is_given_up: IsGivenUp, template: ChatTemplate, messages: list[Message]) -> str:
        if self._programs is None:
            return render_chat(template, messages)
        return self._programs.render_chat(template, messages, is_given_up)


def _parts(tokenizer: Any, texts: TextEncoder, like: TokenizerParts | None) -> TokenizerParts:
    if like is None:
        token_bytes = TokenBytes(tokenizer, frozenset(tokenizer.all_special_ids), partial(_decoded, tokenizer))
        return TokenizerParts(texts, token_bytes, TokenLength(tokenizer), uuid.uuid4().hex)
    return like._replace(texts=texts, name=like.name if texts.encoding is like.texts.encoding else uuid.uuid4().hex)


def _decoded(tokenizer: Any, ids: list[int]) -> str:
    text: str = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    return text
