"""Reads messages: conversations, prompts and single responses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from training.data.examples import Message, Role
from training.data.faults import Misfit
from training.data.values import expect_fields, shown, text

ROLES: dict[str, Role] = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
KNOWN = frozenset({"role", "content", "name", "weight"})
TOOL_FIELDS = ("tool_calls", "function_call", "tool_call_id")


def messages_of(value: Any, *path: str | int) -> tuple[Message, ...]:
    """Return a conversation whose last message is the assistant's. Raises `Misfit`."""
    messages = _messages(value, *path)
    if messages[-1].role != "assistant":
        raise Misfit("the last message must be the assistant's", *path, len(messages) - 1, "role")
    if not any(one.is_learned for one in messages):
        raise Misfit("every assistant message has weight 0; at least one must have weight 1", *path)
    if messages[0].is_learned:
        raise Misfit("nothing comes before this answer; begin with the user's message, or set weight 0", *path, 0)
    return messages


def prompt_of(value: Any, *path: str | int) -> tuple[Message, ...]:
    """Return the messages of a prompt: a text, or messages that end with the user's. Raises `Misfit`."""
    if not isinstance(value, list):
        return (Message("user", text(value, *path)),)
    messages = _messages(value, *path)
    if messages[-1].role != "user":
        raise Misfit("the last message of a prompt must be the user's", *path, len(messages) - 1, "role")
    return tuple(Message(one.role, one.content) for one in messages)


def only_answer(value: Any, *path: str | int) -> str:
    """Return a response: a text, or a list with one message of the assistant. Raises `Misfit`."""
    if not isinstance(value, list):
        return text(value, *path)
    messages = _messages(value, *path)
    if len(messages) != 1 or messages[0].role != "assistant":
        raise Misfit("must be a text, or a list with exactly one message, the assistant's", *path)
    return messages[0].content


def _messages(value: Any, *path: str | int) -> tuple[Message, ...]:
    if not isinstance(value, list) or not value:
        raise Misfit(f'must be a list of messages like {{"role": "user", "content": "..."}}, not {shown(value)}', *path)
    return tuple(_message(one, *path, index) for index, one in enumerate(value))


def _message(value: Any, *path: str | int) -> Message:
    if not isinstance(value, dict):
        raise Misfit(f"must be an object with role and content, not {shown(value)}", *path)
    fields = {name: one for name, one in value.items() if one is not None}  # exported responses have nulls
    if used := [name for name in TOOL_FIELDS if name in fields]:
        raise Misfit("calls of tools cannot be trained; write what the assistant says as content", *path, used[0])
    try:
        expect_fields(fields, ("role", "content"), KNOWN)
    except Misfit as err:
        raise err.inside(*path) from err
    role = _role(fields["role"], *path, "role")
    weight = _weight(fields.get("weight"), role, *path, "weight")
    return Message(role, _content(fields["content"], *path, "content"), role == "assistant" and weight == 1)


def _role(value: Any, *path: str | int) -> Role:
    if not isinstance(value, str) or value not in ROLES:
        raise Misfit(f"must be system, developer, user or assistant, not {shown(value)}", *path)
    return ROLES[value]


def _weight(value: Any, role: Role, *path: str | int) -> int:
    if value is None:
        return 1
    if isinstance(value, bool) or value not in (0, 1):
        raise Misfit(f"must be 0 or 1, not {shown(value)}", *path)
    if role != "assistant":
        raise Misfit("only an assistant's message has a weight", *path)
    return int(value)


def _content(value: Any, *path: str | int) -> str:
    if not isinstance(value, list):
        return text(value, *path)
    parts = [_part(one, *path, index) for index, one in enumerate(cast(Sequence[Any], value))]
    return text("\n".join(parts), *path)


def _part(value: Any, *path: str | int) -> str:
    if not isinstance(value, dict) or value.get("type") != "text":
        raise Misfit('must be a part like {"type": "text", "text": "..."}; only text can be trained', *path)
    return text(value.get("text"), *path, "text", may_be_empty=True)
