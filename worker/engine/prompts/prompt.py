"""Renders requests to text and token ids."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import TemplateError

from common.errors import InvalidRequest
from common.jobs.prompts import Conversation, Ending, Prompt, RawText, TokenIds
from common.jobs.reasoning import Reasoning
from common.jobs.sampling import Grammar
from common.jobs.tools import HERMES, ToolForm
from models.errors import UnspellableText
from models.text.chat_template import ChatTemplate, Message, Tool, render_chat
from models.text.control_tokens import Segment
from models.text.conversation import ConversationEncoder, text_of
from models.text.plain_tokenizer import TokenizerState
from models.text.saved_template import chat_template
from models.text.text_encoder import Encode, Encoding, TextEncoder
from worker.engine.output.token_bytes import TokenBytes
from worker.engine.prompts import reasoning, tools
from worker.engine.prompts.middle import MiddleForm, middle_form
from worker.engine.prompts.token_length import TokenLength
from worker.engine.untrusted_code.client import TakesTooMuch, UntrustedPrograms
from worker.engine.untrusted_code.datasets import DatasetToCheck, check_dataset
from worker.helper.given_up import IsGivenUp, never

CheckLength = Callable[[int], None]

_ENDINGS: dict[Ending, dict[str, bool]] = {  # as variables of a template
    Ending.NEW_TURN: {},
    Ending.CONTINUE: {"add_generation_prompt": False, "continue_final_message": True},
    Ending.CLOSED: {"add_generation_prompt": False},
}
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
        encoding: with this tokenizer, if it was made before.

    Raises:
        jinja2.TemplateError, TakesTooMuch, UnspellableText, ValueError: template or tokenizer cannot be used.
    """

    def __init__(
        self,
        tokenizer: Any,
        adapter_dir: Path | None = None,
        programs: UntrustedPrograms | None = None,
        like: TokenizerParts | None = None,
        encoding: Encoding | None = None,
    ) -> None:
        self.template = chat_template(tokenizer, adapter_dir)
        self._tokenizer = tokenizer
        self._programs = programs
        self._conversations = ConversationEncoder(
            tokenizer, self.template, partial(self._render_within, never), like.texts.encoding if like else encoding
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
                a limit; or a token id is unknown, or the tokenizer cannot encode the text or has no tokens for a
                suffix.
            GivenUp: `is_given_up` became true first.
        """
        match prompt:
            case RawText(text, suffix) if suffix:
                return self._middle(text, suffix, is_given_up, check_length)
            case RawText(text, is_bare=is_bare):
                return RenderedPrompt(text, self._encode(text, is_given_up, check_length, is_part=is_bare))
            case TokenIds(ids):
                check_length(len(ids))
                return RenderedPrompt(self._decode(ids), list(ids))
            case Conversation():
                return self._conversation(prompt, is_given_up, check_length)
            case instruction:
                one = Conversation(({"role": "user", "content": instruction},))
                return self._conversation(one, is_given_up, check_length)

    def end_ids(self, prompt: Prompt) -> tuple[int, ...]:
        """Return the tokens that end the answer to this prompt, beside the model's end tokens."""
        has_suffix = isinstance(prompt, RawText) and prompt.suffix
        return self._middle_form.end_ids if has_suffix and self._middle_form is not None else ()

    @cached_property
    def _middle_form(self) -> MiddleForm | None:
        return middle_form(self._tokenizer)

    @property
    def tool_form(self) -> ToolForm:
        """The form in which the model writes calls of tools."""
        return self._template_form or HERMES

    def in_form(self, grammar: Grammar) -> Grammar:
        """Return the grammar with the form of the model's calls, if it is one of tools."""
        return tools.in_form(grammar, self.tool_form, self.marker_id)

    @property
    def marker_id(self) -> int | None:
        """The token of the marker of calls, if it is a special token; its text is a part of the answer."""
        return self._special_ids.get(self.tool_form.marker)

    def reasoning(self, prompt: Prompt, render: Callable[[], str], parser: str) -> Reasoning | None:
        """Return the reasoning that the answer to a prompt may have; None if it has none.

        Args:
            prompt: the prompt.
            render: returns the prompt as rendered. It is called only if the template has reasoning.
            parser: the setting `SLM_REASONING_PARSER`.
        """
        form = reasoning.chosen_form(parser, self.template)
        return None if form is None else reasoning.reasoning(form, prompt, render, self._special_ids)

    @cached_property
    def _special_ids(self) -> dict[str, int]:
        added = self._tokenizer.added_tokens_decoder.items()
        return {token.content: token_id for token_id, token in added if token.special}

    @cached_property
    def _template_form(self) -> ToolForm | None:
        """The form of calls that the template renders; None if it renders none. Found at the first use."""
        return tools.template_form(self._probe)

    @cached_property
    def _has_system(self) -> bool:
        return tools.accepts_system(self._probe)

    def _probe(self, messages: list[Message], shown: Sequence[Tool]) -> str:
        try:
            return text_of(self._conversations.segments(messages, tools=shown))
        except TakesTooMuch as error:
            raise TemplateError(str(error)) from error

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """Return the text of each token; U+FFFD replaces bytes that are not a whole character."""
        return [self.parts.token_bytes.of(token_id).decode(errors="replace") for token_id in ids]

    def names(self, ids: Sequence[int]) -> list[str]:
        """Return the name that each token has in the vocabulary."""
        return [name or "" for name in self._tokenizer.convert_ids_to_tokens(list(ids))]

    def about(self) -> dict[str, Any]:
        """Return facts about the tokenizer, under the names in `tokenizer_config.json`."""
        special = {
            name: str(token)
            for name, token in self._tokenizer.special_tokens_map.items()
            if not isinstance(token, list)
        }
        added = self._tokenizer.added_tokens_decoder.items()
        return {
            "tokenizer_class": type(self._tokenizer).__name__,
            **special,
            "chat_template": self.template,
            "vocab_size": len(self._tokenizer),
            "added_tokens_decoder": {
                str(token_id): {"content": token.content, "special": token.special} for token_id, token in added
            },
        }

    def check_dataset(self, wanted: DatasetToCheck, is_given_up: IsGivenUp = never) -> dict[str, Any]:
        """Check a dataset with this tokenizer and template, which replace those of `wanted`.

        Raises:
            InvalidRequest: as `worker.engine.untrusted_code.datasets.check_dataset`, or the check exceeds a limit.
            GivenUp: `is_given_up` became true first.
        """
        state, texts = TokenizerState.of(self._tokenizer), self._conversations.texts
        asked = replace(wanted, template=self.template, tokenizer=None if state is None else state.to_dict())
        if self._programs is None:
            return check_dataset(asked, texts.encoding)
        try:
            return self._programs.check_dataset(asked, self.parts.name, texts.encoding, is_given_up)
        except TakesTooMuch as error:
            raise InvalidRequest(f"The dataset cannot be checked: {error}.", param="file_id") from error

    def close(self) -> None:
        """Free what the helper keeps for it and no other renderer."""
        if self._programs is not None and not self._is_shared:
            self._programs.forget_tokenizer(self.parts.name)

    def _middle(self, before: str, after: str, is_given_up: IsGivenUp, check_length: CheckLength) -> RenderedPrompt:
        if (form := self._middle_form) is None:
            raise InvalidRequest(
                "suffix cannot be used with this model: its tokenizer has no tokens for filling in the middle",
                param="suffix",
            )
        parts = [self._encode(text, is_given_up, check_length, is_part=True) for text in (before, after)]
        token_ids = [*self._conversations.texts.start_ids, *form.token_ids(*parts)]
        return RenderedPrompt(form.text(before, after), token_ids)

    def _encode(
        self, text: str, is_given_up: IsGivenUp, check_length: CheckLength, *, is_part: bool = False
    ) -> list[int]:
        """Encode with the tokens that the tokenizer adds around a text, such as a start token, unless it `is_part`."""
        check_length(self.parts.length.min_tokens(text))
        texts, encode = self._conversations.texts, self._helper_encoding(text, is_given_up)
        try:
            if is_part:
                return texts.segment_ids([Segment(text, is_control=False)], encode)
            return texts.text_ids(text, encode)
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

    def _segments(self, prompt: Conversation, is_given_up: IsGivenUp) -> list[Segment]:
        """Return the rendered conversation; its tools are rendered by the template if it can."""
        messages, shown = list(prompt.messages), prompt.tools
        if _uses_tools(prompt) and self._template_form is not None:
            messages = tools.in_template_form(messages)
        elif _uses_tools(prompt):
            messages, shown = tools.in_preamble_form(messages, shown, has_system=self._has_system), ()
        render = partial(self._render_within, is_given_up)
        return self._conversations.segments(messages, render, {**prompt.variables, **_ENDINGS[prompt.ending]}, shown)

    def _conversation(self, prompt: Conversation, is_given_up: IsGivenUp, check_length: CheckLength) -> RenderedPrompt:
        try:
            segments = self._segments(prompt, is_given_up)
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


def _uses_tools(prompt: Conversation) -> bool:
    return bool(prompt.tools) or any(one["role"] == "tool" or "tool_calls" in one for one in prompt.messages)


def _parts(tokenizer: Any, texts: TextEncoder, like: TokenizerParts | None) -> TokenizerParts:
    if like is None:
        token_bytes = TokenBytes(tokenizer, frozenset(tokenizer.all_special_ids), partial(_decoded, tokenizer))
        return TokenizerParts(texts, token_bytes, TokenLength(tokenizer), uuid.uuid4().hex)
    return like._replace(texts=texts, name=like.name if texts.encoding is like.texts.encoding else uuid.uuid4().hex)


def _decoded(tokenizer: Any, ids: list[int]) -> str:
    text: str = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    return text
