"""From a conversation to the text and the token ids that a model sees, when it is trained as when it is served."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from SLMInit.chat_template import ChatTemplate, Message, content_forms, in_forms, render_chat
from SLMInit.control_tokens import Segment
from SLMInit.prompt_template import INSTRUCTION_TEMPLATE
from SLMInit.text_encoder import Encode, TextEncoder

RenderChat = Callable[[ChatTemplate, list[Message]], str]


class ConversationEncoder:
    """Renders conversations with one chat template and encodes them with one tokenizer. Safe from several threads.

    A template writes its special tokens itself; only the instruction template leaves those at the start to the
    tokenizer. What users typed is text.

    Args:
        tokenizer: of transformers.
        template: Jinja text.
        render: as `render_chat`.

    Raises:
        TemplateError: the template fails on every conversation.
        UnspellableText, ValueError: the tokenizer cannot be used.
    """

    def __init__(self, tokenizer: Any, template: str, render: RenderChat = render_chat) -> None:
        self.texts = TextEncoder(tokenizer, template)
        self._template = ChatTemplate(template, _variables(tokenizer))
        self._render = render
        self._forms = content_forms(lambda messages: render(self._template, messages))
        self._start_ids = self.texts.start_ids if template == INSTRUCTION_TEMPLATE else []

    def encode(self, messages: list[Message]) -> tuple[str, list[int]]:
        """The conversation's text and ids, with the beginning of the assistant's next turn. Contents are texts.

        Raises:
            TemplateError: the template leaves a message out, refuses it, or fails.
            UnspellableText: the tokenizer has no tokens for a text.
        """
        segments = self.segments(messages)
        return text_of(segments), self.ids(segments)

    def segments(self, messages: list[Message], render: RenderChat | None = None) -> list[Segment]:
        """The conversation's text in segments, which `ids` encodes. `render` is used in place of the one for all.

        Raises:
            TemplateError: the template leaves a message out, refuses it, or fails.
        """
        marked = self.texts.mark(in_forms(messages, self._forms))
        return self.texts.split((render or self._render)(self._template, marked.messages), marked.mark)

    def ids(self, segments: list[Segment], encode: Encode | None = None) -> list[int]:
        """The ids of a conversation; `encode` is as in `TextEncoder`.

        Raises:
            UnspellableText: the tokenizer has no tokens for a text.
        """
        return [*self._start_ids, *self.texts.segment_ids(segments, encode)]


def text_of(segments: list[Segment]) -> str:
    """What the segments are together."""
    return "".join(segment.text for segment in segments)


def _variables(tokenizer: Any) -> dict[str, str]:
    """What a template may write: `bos_token`, `eos_token` and others."""
    return {name: str(token) for name, token in tokenizer.special_tokens_map.items() if not isinstance(token, list)}
