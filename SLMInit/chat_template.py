"""A chat template, the program that came with a model or adapter and writes a conversation as one text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from jinja2 import Environment, TemplateError

Message = dict[str, Any]  # role; content: a text, or a list of parts {"type": "text", "text": ...}
ContentForm = Literal["text", "parts"]
Render = Callable[[list[Message]], str]

_PROBE = "probe 7e1c"  # a text that no template writes by itself
# By role, who speaks in a conversation that shows it: some templates insist on a system message first.
_PROBES: dict[str, tuple[tuple[str, ...], ...]] = {
    "user": (("user",), ("system", "user")),
    "system": (("system", "user"),),
    "assistant": (("user", "assistant", "user"), ("system", "user", "assistant", "user")),
}


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """A template as plain data: its Jinja text, and the variables it may use, such as `bos_token`."""

    source: str
    variables: Mapping[str, str]


def render_chat(template: ChatTemplate, messages: list[Message]) -> str:
    """Write the conversation, with the beginning of the assistant's next turn.

    Raises:
        TemplateError: the template refuses the messages or fails; the text says why.
    """
    from transformers.utils.chat_template_utils import render_jinja_template

    render: Any = render_jinja_template  # it is annotated as returning a text
    try:
        (text,), _ = render(
            conversations=[messages], chat_template=template.source, add_generation_prompt=True, **template.variables
        )
    except (TemplateError, MemoryError):
        raise
    except Exception as err:  # it is a program of strangers
        raise TemplateError(f"{type(err).__name__}: {err}") from err
    return str(text)


def literals(source: str) -> str:
    """The texts that a template itself writes, one a line. Raises `TemplateError` if it is no template."""
    tokens = Environment(autoescape=True).lex(source)
    return "\n".join(text for _, kind, text in tokens if kind in ("data", "string"))


def content_forms(render: Render) -> dict[str, ContentForm | None]:
    """By role, the form in which the template shows a message's words; None if it leaves them out in either form.

    Raises:
        TemplateError: it fails on every conversation.
    """
    return {role: _content_form(render, role) for role in _PROBES}


def in_forms(messages: list[Message], forms: Mapping[str, ContentForm | None]) -> list[Message]:
    """The messages, whose contents are texts, in the forms that the template takes.

    Raises:
        TemplateError: it would leave one of them out.
    """
    left_out = [one["role"] for one in messages if one["role"] in forms and forms[one["role"]] is None]
    if left_out:
        raise TemplateError(f"it has no place for the role {left_out[0]!r}")
    return [_message(one["role"], one["content"], forms.get(one["role"])) for one in messages]


def _content_form(render: Render, role: str) -> ContentForm | None:
    failures: list[TemplateError] = []
    num_shown = 0
    for form in ("text", "parts"):
        for roles in _PROBES[role]:
            say = partial(_message, form=form)
            try:
                text = render([say(one, _PROBE if one == role else "Hello") for one in roles])
            except TemplateError as err:
                failures.append(err)
                continue
            num_shown += 1
            if _PROBE.casefold() in text.casefold():
                return form
    if role == "user" and not num_shown:
        raise failures[0]
    return None if num_shown else "text"  # what it always refuses, it refuses with words of its own


def _message(role: str, text: str, form: str | None) -> Message:
    return {"role": role, "content": [{"type": "text", "text": text}] if form == "parts" else text}
