"""A conversation with the model: what was said so far, and the commands that change it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

HELP = "/reset forgets the conversation; /system TEXT gives the model an instruction (without TEXT: none); /exit ends."


class Conversation:
    """Builds the requests. `fields` are the options that every request has."""

    def __init__(self, fields: Mapping[str, Any], system: str | None) -> None:
        self._fields = fields
        self._system = system
        self._said: list[dict[str, str]] = []

    def request(self, text: str) -> dict[str, Any]:
        """Return the body of a chat completion in which the user says `text` next."""
        system = [] if not self._system else [_message("system", self._system)]
        return {**self._fields, "messages": [*system, *self._said, _message("user", text)]}

    def note(self, text: str, answer: str) -> None:
        """Remember what was said. An answer without text is forgotten together with its question."""
        if answer.strip():
            self._said += [_message("user", text), _message("assistant", answer.strip())]

    def obey(self, command: str) -> str:
        """Follow a command of the user, other than /exit; returns what to tell them."""
        name, _, argument = command.partition(" ")
        match name:
            case "/reset":
                self._said.clear()
                return "The conversation begins anew."
            case "/system":
                self._system = argument.strip()
                return "The model has this instruction now." if self._system else "The model has no instruction now."
            case "/help":
                return HELP
        return f"There is no command {name}. {HELP}"


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}
