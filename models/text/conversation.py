"""Turns a conversation into the text and token ids that a model sees, identically in training and serving."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from jinja2 import TemplateError

from models.text.chat_template import (
    ChatTemplate,
    ContentForm,
    Message,
    Tool,
    content_forms,
    in_forms,
    render_chat,
)
from models.text.control_tokens import Segment
from models.text.prompt_template import INSTRUCTION_TEMPLATE
from models.text.text_encoder import Encode, Encoding, TextEncoder

RenderChat = Callable[[ChatTemplate, list[Message]], str]

USUAL_ROLES = {"tool"}  # beside those of `content_forms`: rendered with the tools
MAX_OWN_ROLES = 8  # others in one conversation: each is tried with up to four renderings
NOTHING_MORE: Mapping[str, Any] = MappingProxyType({})


class ConversationEncoder:
    """Renders conversations with one chat template and encodes them with one tokenizer. Thread-safe.

    A template writes its special tokens itself; only the instruction template leaves the start tokens to the tokenizer.
    User input is always encoded as text.

    Args:
        tokenizer: a transformers tokenizer.
        template: Jinja text.
        render: a function like `render_chat`.
        like: as in `TextEncoder`.

    Raises:
        TemplateError: the template fails on every conversation.
        UnspellableText, ValueError: the tokenizer cannot be used.
    """

    def __init__(
        self,
        tokenizer: Any,
        template: str,
        render: RenderChat = render_chat,
        like: Encoding | None = None,
    ) -> None:
        self.texts = TextEncoder(tokenizer, template, like)
        self._template = ChatTemplate(template, _variables(tokenizer))
        self._render = render
        self._forms = content_forms(lambda messages: render(self._template, messages))
        self._start_ids = self.texts.start_ids if template == INSTRUCTION_TEMPLATE else []

    def encode(self, messages: list[Message]) -> tuple[str, list[int]]:
        """Return the conversation's text and ids, with the header of the assistant's next turn. Contents are texts.

        Raises:
            TemplateError: the template omits or rejects a message, or fails.
            UnspellableText: the tokenizer has no tokens for a text.
        """
        segments = self.segments(messages)
        return text_of(segments), self.ids(segments)

    def segments(
        self,
        messages: list[Message],
        render: RenderChat | None = None,
        variables: Mapping[str, Any] = NOTHING_MORE,
        tools: Sequence[Tool] = (),
    ) -> list[Segment]:
        """Return the conversation's text as segments for `ids`. `render` replaces the renderer for this call.

        `variables` are more variables for the template, as are `tools`, whose texts come from a client.

        Raises:
            TemplateError: the template omits or rejects a message, or fails.
        """
        forms = self._forms | self._own_forms(messages, render or self._render)
        marked = self.texts.mark(in_forms(messages, forms), tools)
        shown = {"tools": marked.tools} if marked.tools else {}
        template = ChatTemplate(self._template.source, {**self._template.variables, **variables, **shown})
        return self.texts.split((render or self._render)(template, marked.messages), marked.mark)

    def _own_forms(self, messages: list[Message], render: RenderChat) -> dict[str, ContentForm | None]:
        """Return the forms of roles that not every template knows. They are rare, so each is tried anew."""
        own = {one["role"] for one in messages} - self._forms.keys() - USUAL_ROLES
        if len(own) > MAX_OWN_ROLES:
            raise TemplateError(f"it is not tried with more than {MAX_OWN_ROLES} roles beside the usual ones")
        return content_forms(lambda probe: render(self._template, probe), own)

    def ids(self, segments: list[Segment], encode: Encode | None = None) -> list[int]:
        """Return the ids of a conversation; `encode` is as in `TextEncoder`.

        Raises:
            UnspellableText: the tokenizer has no tokens for a text.
        """
        return [*self._start_ids, *self.texts.segment_ids(segments, encode)]


def text_of(segments: list[Segment]) -> str:
    """Return the joined text of the segments."""
    return "".join(segment.text for segment in segments)


def _variables(tokenizer: Any) -> dict[str, str]:
    """Return the variables for a template: `bos_token`, `eos_token` and others."""
    return {name: str(token) for name, token in tokenizer.special_tokens_map.items() if not isinstance(token, list)}
