"""Defines conversations and their messages."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from common.jobs.events import AnswerSyntax
from common.jobs.job import JobState
from common.wire import known_fields

Role = Literal["system", "user", "assistant", "tool"]
Rating = Literal["up", "down"]
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class AnswerPlace:
    """Where the answer of a job belongs: after the message `parent_id` ("": at the root) of a conversation.

    The limits are those of `Quota`. If the job continues the conversation, `given` are the new messages that it
    answers, one after another; they are added between the parent and the answer.
    """

    conversation_id: str
    parent_id: str
    most_messages: int
    most_bytes: int
    given: Sequence[NewMessage] = ()

    def fields(self) -> dict[str, str]:
        """Return the options of `submit.lua`."""
        place = {
            "parent": self.parent_id,
            "most_messages": self.most_messages,
            "most_bytes": self.most_bytes,
            "given": [(one.id, one.written.to_json()) for one in self.given],
        }
        return {"conversation": self.conversation_id, "place": json.dumps(place)}

    def first_message(self, job_id: str) -> str:
        """Return the first of the messages that a job adds to the conversation."""
        return self.given[0].id if self.given else f"msg_{job_id}"


@dataclass(frozen=True, slots=True)
class Quota:
    """The limits of an owner: conversations, messages in each of them, and bytes of all of them together."""

    conversations: int
    messages: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Written:
    """What a client wrote into a message. `model` and `usage` are for answers that no job of this server has given.

    `tool_calls` and `tool_call_id` are in OpenAI's form. `is_edited`: `content` replaces the answer of a job.
    """

    role: Role
    content: str
    name: str | None = None
    tool_calls: Sequence[Json] = ()
    tool_call_id: str | None = None
    model: str | None = None
    usage: Mapping[str, int] | None = None
    rating: Rating | None = None
    is_edited: bool = False

    def to_json(self) -> str:
        """Return the JSON stored in Redis, without unset fields; `from_json` reads it back."""
        return json.dumps({name: value for name, value in asdict(self).items() if value}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Written:
        """Parse the JSON stored in Redis."""
        return cls(**{"content": ""} | known_fields(cls, json.loads(text)))


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer of a job; `state` is None until the job has ended.

    `tool_form` and `reasoning` are those of its `AnswerSyntax`. `error` is that of the job, as JSON.
    """

    job_id: str
    state: JobState | None = None
    text: str = ""
    tool_form: str | None = None
    finish_reason: str | None = None
    model: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    error: str | None = None
    reasoning: Json | None = None

    @property
    def syntax(self) -> AnswerSyntax:
        """How its parts can be told apart."""
        return AnswerSyntax.from_dict({"tool_form": self.tool_form, "reasoning": self.reasoning})

    @classmethod
    def from_json(cls, text: str) -> Answer:
        """Parse the JSON stored in Redis."""
        wire = json.loads(text)
        return cls(**known_fields(cls, wire) | {"state": JobState(wire["state"]) if "state" in wire else None})


@dataclass(frozen=True, slots=True)
class Message:
    """A message and its place: it follows the message `parent_id` ("": none). `number` orders by creation."""

    id: str
    parent_id: str
    number: int
    created_ms: int
    written: Written
    answer: Answer | None = None
    is_lost: bool = False  # its job is gone, and had not ended

    @property
    def text(self) -> str:
        """What a client wrote, or the answer of its job; "" while the job runs."""
        return self.written.content if self.answer is None or self.written.is_edited else self.answer.text


@dataclass(frozen=True, slots=True)
class Conversation:
    """The record of a conversation. Times are ms since the epoch on Redis's clock.

    `leaf_id` is the message that is shown last, with all before it; "" if there is none. `settings` are the sampling
    parameters that its client wants to use. `bytes` is the approximate size of everything in it.
    """

    id: str
    owner: str
    title: str
    system_prompt: str
    model: str
    settings: Json
    metadata: Mapping[str, str]
    leaf_id: str
    created_ms: int
    updated_ms: int
    bytes: int
    num_messages: int

    @classmethod
    def from_hash(cls, fields: Mapping[str, str], num_messages: int) -> Conversation:
        """Parse the hash at `keys.conversation(id)`."""
        return cls(
            fields["id"],
            fields["owner"],
            fields.get("title", ""),
            fields.get("system_prompt", ""),
            fields.get("model", ""),
            json.loads(fields.get("settings", "{}")),
            json.loads(fields.get("metadata", "{}")),
            fields["leaf"],
            int(fields["created_ms"]),
            int(fields["updated_ms"]),
            int(fields["bytes"]),
            num_messages,
        )


@dataclass(frozen=True, slots=True)
class Thread:
    """A conversation with all of its messages, in the order in which they were added."""

    record: Conversation
    messages: Sequence[Message]
    _by_id: dict[str, Message] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_id", {one.id: one for one in self.messages})

    def find(self, message_id: str) -> Message | None:
        """Return one of the messages, if there is such a one."""
        return self._by_id.get(message_id)

    def path_to(self, message_id: str) -> list[Message]:
        """Return the message and all before it, the first one first."""
        path: list[Message] = []
        message = self.find(message_id)
        while message is not None:
            path.append(message)
            message = self.find(message.parent_id)
        return path[::-1]

    def shown(self) -> list[Message]:
        """Return the messages that are shown."""
        return self.path_to(self.record.leaf_id)


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message to add. `parent_id` is "" for the root, or None for the message that is shown last.

    The job `job_id` writes the message, or has written it; its id is then made from the job's (`answer_id`).
    `created_ms` is that of an imported message.
    """

    id: str
    written: Written
    parent_id: str | None = None
    job_id: str | None = None
    created_ms: int | None = None


def answer_id(job_id: str) -> str:
    """Return the id of the message that a job writes."""
    return f"msg_{job_id}"
