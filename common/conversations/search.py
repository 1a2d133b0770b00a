"""Searches an owner's conversations for a text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

from redis import Redis

from common.conversations.conversation import Conversation, Message
from common.conversations.store import messages_of
from common.owners.collection import rank_after
from common.redis import keys

MAX_CONVERSATIONS, MAX_BYTES = 1000, 16 * 2**20  # that one search reads; the client continues after the last one
AT_ONCE = 20
EXCERPT_CHARS = 60  # before and after a match


@dataclass(frozen=True, slots=True)
class Match:
    """A conversation, and where the text is: in a message, or in the title (`message_id` is None)."""

    conversation: Conversation
    message_id: str | None
    excerpt: str


@dataclass(frozen=True, slots=True)
class Found:
    """Matches, and the last conversation that was examined, after which the search can continue; "" if there was none.

    `has_more`: whether conversations follow that were not examined.
    """

    matches: Sequence[Match]
    last_id: str
    has_more: bool


def search(redis: Redis, owner: str, text: str, *, after: str | None, limit: int) -> Found:
    """Return conversations with the text in any case, in their title or a message, the latest change first.

    It ends early after `MAX_CONVERSATIONS` or `MAX_BYTES`. May raise `redis.exceptions.RedisError`.
    """
    wanted, matches, last_id, size = text.casefold(), [], "", 0
    index = keys.conversations(owner)
    begin = rank_after(redis, index, after)
    names = cast(list[str], redis.zrevrange(index, begin, begin + MAX_CONVERSATIONS))
    for count, (record, messages) in enumerate(_read(redis, names), 1):
        match = _match(record, messages, wanted)
        matches += [] if match is None else [match]
        last_id, size = record.id, size + record.bytes
        if len(matches) == limit or size >= MAX_BYTES or count == MAX_CONVERSATIONS:
            return Found(matches, last_id, has_more=last_id != names[-1])
    return Found(matches, last_id, has_more=False)


def _read(redis: Redis, names: Sequence[str]) -> Iterator[tuple[Conversation, list[Message]]]:
    for begin in range(0, len(names), AT_ONCE):
        with redis.pipeline(transaction=False) as pipe:
            for name in names[begin : begin + AT_ONCE]:
                pipe.hgetall(keys.conversation(name))
                for part in ("tree", "messages", "answers"):
                    pipe.hgetall(keys.conversation_part(name, part))
            found = pipe.execute()
        for fields, tree, written, answers in zip(found[::4], found[1::4], found[2::4], found[3::4], strict=True):
            if fields:
                yield Conversation.from_hash(fields, len(tree)), messages_of(tree, written, answers)


def _match(record: Conversation, messages: Sequence[Message], wanted: str) -> Match | None:
    for message_id, text in ((None, record.title), *((one.id, one.text) for one in messages)):
        if (place := text.casefold().find(wanted)) >= 0:
            return Match(record, message_id, _excerpt(text, place, len(wanted)))
    return None


def _excerpt(text: str, place: int, length: int) -> str:
    begin, end = max(0, place - EXCERPT_CHARS), place + length + EXCERPT_CHARS
    return ("…" if begin else "") + text[begin:end] + ("…" if end < len(text) else "")
