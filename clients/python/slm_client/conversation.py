"""Conversations that the server keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Message:
    """A message. `content` is empty while the job `job_id` writes it (`status` "in_progress"): then follow the job.

    `parent_id` is the message before it; None if it is a first message.
    """

    id: str
    parent_id: str | None
    role: str
    content: str
    status: Literal["in_progress", "completed", "incomplete"]
    job_id: str | None = None
    model: str | None = None
    rating: str | None = None
    tool_calls: Sequence[Json] = ()
    tool_call_id: str | None = None

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Message:
        """Read the server's JSON; ignores fields of newer servers. Raises `KeyError` if a field is missing."""
        return cls(**{name: body[name] for name in cls.__dataclass_fields__})

    def to_prompt(self) -> Json:
        """Return it as a message of a chat."""
        more = {"tool_calls": list(self.tool_calls)} if self.tool_calls else {}
        call = {} if self.tool_call_id is None else {"tool_call_id": self.tool_call_id}
        return {"role": self.role, "content": self.content, **more, **call}


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation. `messages` is empty in lists; `leaf_id` is the message that is shown last."""

    id: str
    title: str
    system_prompt: str
    model: str | None
    settings: Json
    metadata: Mapping[str, str]
    leaf_id: str | None
    messages: Sequence[Message] = ()

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Conversation:
        """Read the server's JSON. Raises as `Message.from_body`."""
        plain = {name: body[name] for name in cls.__dataclass_fields__ if name != "messages"}
        return cls(**plain, messages=[Message.from_body(one) for one in body.get("messages", ())])

    @classmethod
    def from_listing(cls, body: Mapping[str, Any]) -> list[Conversation]:
        """Read the JSON of a list."""
        return [cls.from_body(one) for one in body["conversations"]]

    def shown(self) -> list[Message]:
        """Return the messages that are shown, the first one first."""
        by_id = {one.id: one for one in self.messages}
        path: list[Message] = []
        message = None if self.leaf_id is None else by_id.get(self.leaf_id)
        while message is not None:
            path.append(message)
            message = None if message.parent_id is None else by_id.get(message.parent_id)
        return path[::-1]

    def to_prompt(self) -> list[Json]:
        """Return the system prompt and the messages that are shown as the messages of a chat."""
        first = [{"role": "system", "content": self.system_prompt}] if self.system_prompt else []
        return first + [one.to_prompt() for one in self.shown()]
