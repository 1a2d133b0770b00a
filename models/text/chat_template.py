"""Renders conversations with a chat template: the program that comes with a model or adapter."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from jinja2 import Environment, TemplateError

from models.text.template_engine import render_function

# role; perhaps name; content: a text, or a list of parts {"type": "text", "text": ...}; for tools as in
# `common.jobs.prompts`
Message = dict[str, Any]
Tool = dict[str, Any]  # in OpenAI's form
ContentForm = Literal["text", "parts"]
Render = Callable[[list[Message]], str]

_PROBE = "probe 7e1c"  # a text that no template contains
# For each role, the roles of test conversations that include it: some templates require a system message first.
_PROBES: dict[str, tuple[tuple[str, ...], ...]] = {
    "user": (("user",), ("system", "user")),
    "system": (("system", "user"),),
    "assistant": (("user", "assistant", "user"), ("system", "user", "assistant", "user")),
}


@dataclass(frozen=True, slots=True)
class ChatTemplate:
    """A template as plain data: its Jinja text and the variables it may use, such as `bos_token` and `tools`.

    The variables can also set how the conversation ends: `add_generation_prompt`, `continue_final_message`.
    """

    source: str
    variables: Mapping[str, Any]


def render_chat(template: ChatTemplate, messages: list[Message]) -> str:
    """Return the conversation as text, by default followed by the header of the assistant's next turn.

    Raises:
        TemplateError: the template rejects the messages or fails; the text says why.
    """
    try:
        (text,), _ = render_function()(
            conversations=[messages],
            chat_template=template.source,
            **({"add_generation_prompt": True} | dict(template.variables)),
        )
    except (TemplateError, MemoryError):
        raise
    except Exception as err:  # the template is third-party code
        raise TemplateError(f"{type(err).__name__}: {err}") from err
    return str(text)


def literals(source: str) -> str:
    """Return the literal texts of a template, one per line. Raises `TemplateError` if it is not a valid template."""
    tokens = Environment(autoescape=True).lex(source)
    return "\n".join(text for _, kind, text in tokens if kind in ("data", "string"))


def content_forms(render: Render, roles: Iterable[str] = tuple(_PROBES)) -> dict[str, ContentForm | None]:
    """Return for each role the content form that the template renders; None if it omits the text in both forms.

    Raises:
        TemplateError: the template fails on every conversation.
    """
    return {role: _content_form(render, role) for role in roles}


def in_forms(messages: list[Message], forms: Mapping[str, ContentForm | None]) -> list[Message]:
    """Return the messages (with texts as contents) in the content forms that the template renders.

    Raises:
        TemplateError: the template would omit one of them.
    """
    left_out = [one["role"] for one in messages if one["role"] in forms and forms[one["role"]] is None]
    if left_out:
        raise TemplateError(f"it does not support the role {left_out[0]!r}")
    return [one | _message(one["role"], one["content"], forms.get(one["role"])) for one in messages]


def _content_form(render: Render, role: str) -> ContentForm | None:
    failures: list[TemplateError] = []
    num_shown = 0
    for form in ("text", "parts"):
        for roles in _PROBES.get(role, (("user", role), (role,))):
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
    return None if num_shown else "text"  # a role that it always rejects gets the template's own error message


def _message(role: str, text: str, form: str | None) -> Message:
    return {"role": role, "content": [{"type": "text", "text": text}] if form == "parts" else text}
