"""Stores conversations in Redis. A job that ends writes its answer there in the same step (`keep_answer` in Lua)."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from redis import Redis

from common import ids
from common.conversations.conversation import (
    Answer,
    Conversation,
    Message,
    NewMessage,
    Quota,
    Thread,
    Written,
)
from common.errors import Conflict, NotFound, QuotaExceeded, SLMError
from common.owners.collection import Page, page_of
from common.redis import keys
from common.redis.scripts import Argument, Script

RETRY_S = 3600  # conversations are kept until they are deleted, or for months
TIDIED_AT_ONCE = 100
ATTEMPTS = 5  # to change a message that others are changing, too
_SHOWN_LAST = "@"  # stands for the parent of a message that follows the one shown last


@dataclass(frozen=True, slots=True)
class About:
    """What a client may set of a conversation; None leaves it as it is. The fields are those of `Conversation`."""

    title: str | None = None
    system_prompt: str | None = None
    model: str | None = None
    settings: Mapping[str, Any] | None = None
    metadata: Mapping[str, str] | None = None
    leaf_id: str | None = None

    def flat(self) -> list[Argument]:
        """Return field, value, ... of the record."""
        texts = {"title": self.title, "system_prompt": self.system_prompt, "model": self.model, "leaf": self.leaf_id}
        objects = {"settings": self.settings, "metadata": self.metadata}
        given = texts | {name: _json(value) for name, value in objects.items()}
        return [part for name, value in given.items() if value is not None for part in (name, value)]


class ConversationStore:
    """Creates, reads, changes and deletes conversations and their messages; the caller checks the owner.

    Every method may raise `redis.exceptions.RedisError`. Each change is one Lua script, which may be sent twice.

    Args:
        redis: connection (with `decode_responses`).
        quota: the limits of each owner.
        ttl_s: how long a conversation is kept after its latest change; 0: until it is deleted.
    """

    def __init__(self, redis: Redis, *, quota: Quota, ttl_s: int) -> None:
        self._redis = redis
        self.quota = quota
        self._ttl_s = ttl_s
        self._create, self._append = Script(redis, "conversation_create"), Script(redis, "conversation_append")
        self._change, self._message = Script(redis, "conversation_change"), Script(redis, "conversation_message")
        self._cut, self._delete = Script(redis, "conversation_cut"), Script(redis, "conversation_delete")
        self._tidy = Script(redis, "conversation_tidy")

    def create(
        self, owner: str, about: About, messages: Sequence[NewMessage] = (), conversation_id: str | None = None
    ) -> str:
        """Create a conversation and return its id. The messages have parents among them, or follow each other.

        An id that is given belongs to this owner; if there is such a conversation already, it stays as it is.

        Raises:
            QuotaExceeded: the owner has too many conversations, or they would be too large.
        """
        conversation_id = conversation_id or f"conv_{uuid.uuid4()}"
        limits = (self.quota.conversations, self.quota.messages, self.quota.bytes)
        flat = [part for one in _linked(messages) for part in one]
        refusal = self._create(conversation_id, owner, *limits, len(messages), *flat, *about.flat())
        self._check(refusal)
        return conversation_id

    def find(self, conversation_id: str) -> Conversation:
        """Return a conversation's record.

        Raises:
            NotFound: there is no such conversation.
        """
        if (found := self._look(conversation_id)) is None:
            raise _unknown(conversation_id)
        return found

    def read(self, conversation_id: str) -> Thread:
        """Return a conversation with its messages. Raises as `find`."""
        if not ids.has_form(conversation_id, ids.CONVERSATION_ID):
            raise _unknown(conversation_id)
        with self._redis.pipeline() as pipe:  # atomic: the parts belong together
            pipe.hgetall(keys.conversation(conversation_id))
            for part in ("tree", "messages", "answers"):
                pipe.hgetall(keys.conversation_part(conversation_id, part))
            fields, tree, written, answers = pipe.execute()
        if not fields:
            raise _unknown(conversation_id)
        return Thread(Conversation.from_hash(fields, len(tree)), self._with_lost(messages_of(tree, written, answers)))

    def newest(self, owner: str, *, after: str | None, limit: int) -> Page[Conversation]:
        """Return the owner's conversations that follow `after`, the latest change first."""
        return page_of(self._redis, keys.conversations(owner), self._look, after=after, limit=limit)

    def append(self, conversation_id: str, messages: Sequence[NewMessage]) -> None:
        """Append messages and show the last of them.

        Raises:
            NotFound: there is no such conversation, parent or job of the conversation's owner.
            Conflict: the job writes another message already.
            QuotaExceeded: there would be too many messages, or the owner's conversations would be too large.
        """
        flat: list[Argument] = []
        for one in messages:
            parent = _SHOWN_LAST if one.parent_id is None else one.parent_id
            flat += (one.id, parent, one.written.to_json(), one.job_id or "")
        self._check(self._append(conversation_id, self.quota.messages, self.quota.bytes, *flat))

    def change(self, conversation_id: str, about: About) -> None:
        """Change a conversation.

        Raises:
            NotFound: there is no such conversation, or no message `leaf_id`.
            QuotaExceeded: the owner's conversations would be too large.
        """
        if flat := about.flat():
            self._check(self._change(conversation_id, self.quota.bytes, *flat))

    def change_message(self, conversation_id: str, message_id: str, change: Callable[[Written], Written]) -> None:
        """Change what is written in a message; `change` is called again if somebody else changes it meanwhile.

        Raises:
            NotFound: there is no such message.
            QuotaExceeded: the owner's conversations would be too large.
            Conflict: others change it all the time.
        """
        for _ in range(ATTEMPTS):
            old = self._redis.hget(keys.conversation_part(conversation_id, "messages"), message_id)
            if old is None:
                raise unknown_message(message_id)
            new = change(Written.from_json(str(old))).to_json()
            refusal = self._message(conversation_id, message_id, self.quota.bytes, str(old), new)
            if refusal != "changed":
                return self._check(refusal)
        raise Conflict("The message is being changed by others; read it again.")

    def cut(self, conversation_id: str, message_id: str, *, keeps_replies: bool) -> int:
        """Delete a message, and all after it unless they are kept; return how many messages were deleted."""
        return int(self._cut(conversation_id, message_id, int(keeps_replies)))

    def delete(self, conversation_id: str) -> None:
        """Delete a conversation. Its running jobs continue."""
        self._delete(conversation_id)

    def tidy(self) -> None:
        """Delete conversations that have not changed for too long; to be called now and then."""
        if self._ttl_s:
            self._tidy(self._ttl_s * 1000, TIDIED_AT_ONCE)

    def _look(self, conversation_id: str) -> Conversation | None:
        if not ids.has_form(conversation_id, ids.CONVERSATION_ID):
            return None
        with self._redis.pipeline() as pipe:
            pipe.hgetall(keys.conversation(conversation_id))
            pipe.hlen(keys.conversation_part(conversation_id, "tree"))
            fields, num_messages = pipe.execute()
        return Conversation.from_hash(fields, num_messages) if fields else None

    def _with_lost(self, messages: list[Message]) -> list[Message]:
        """Mark the messages whose jobs have not ended but are gone, because Redis has lost their latest writes."""
        open_jobs = [one.answer.job_id for one in messages if one.answer is not None and one.answer.state is None]
        if not open_jobs:
            return messages
        with self._redis.pipeline(transaction=False) as pipe:
            for job_id in open_jobs:
                pipe.exists(keys.job(job_id))
            lost = {job_id for job_id, exists in zip(open_jobs, pipe.execute(), strict=True) if not exists}
        return [
            replace(one, is_lost=True) if one.answer is not None and one.answer.job_id in lost else one
            for one in messages
        ]

    def _check(self, refusal: str) -> None:
        if refusal:
            raise self._refusal(refusal)

    def _refusal(self, what: str) -> SLMError:
        match what:
            case "conversations" | "messages" | "bytes":
                return quota_exceeded(what, self.quota)
            case "job_used":
                return Conflict("The job writes another message already.")
            case "parent" | "job" | "leaf":
                return NotFound(f"There is no such {_KINDS[what]}.", param=f"{what}_id")
            case _:
                return NotFound(f"There is no such {what}.", param=f"{what}_id")


_KINDS = {"parent": "message", "job": "generation of yours", "leaf": "message"}


def quota_exceeded(what: str, quota: Quota) -> QuotaExceeded:
    """Return the error for a limit that would be exceeded: `conversations`, `messages` or `bytes`."""
    limit: int = getattr(quota, what)
    said = {
        "conversations": f"You may keep at most {limit} conversations",
        "messages": f"A conversation may have at most {limit} messages",
        "bytes": f"Your conversations may take up at most {limit} bytes",
    }
    return QuotaExceeded(f"{said[what]}; delete some to make room.", retry_after_s=RETRY_S, limit=limit)


def unknown_message(message_id: str) -> NotFound:
    """Return the error for a message that does not exist."""
    return NotFound(f"There is no message {message_id[:60]!r}.", param="message_id")


def _unknown(conversation_id: str) -> NotFound:
    return NotFound(f"There is no conversation {conversation_id[:60]!r}.", param="conversation_id")


def _linked(messages: Sequence[NewMessage]) -> list[tuple[Argument, ...]]:
    """Return id, parent, time and JSON of each message; one without a parent follows the one before it."""
    before = ["", *(one.id for one in messages)]
    return [
        (
            one.id,
            last if one.parent_id is None else one.parent_id,
            "" if one.created_ms is None else one.created_ms,
            one.written.to_json(),
        )
        for one, last in zip(messages, before, strict=False)
    ]


def messages_of(tree: Mapping[str, str], written: Mapping[str, str], answers: Mapping[str, str]) -> list[Message]:
    """Return the messages in the parts of a conversation, in the order in which they were added."""
    found = []
    for message_id, place in tree.items():
        number, created_ms, parent = place.split(" ")
        answer = answers.get(message_id)
        found.append(
            Message(
                message_id,
                parent,
                int(number),
                int(created_ms),
                Written.from_json(written[message_id]),
                None if answer is None else Answer.from_json(answer),
            )
        )
    return sorted(found, key=lambda one: one.number)


def _json(value: Mapping[str, Any] | None) -> str | None:
    return None if value is None else json.dumps(dict(value), ensure_ascii=False)
