"""Remembers what was said in each channel, in conversations that the server keeps."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

from slm_client import AsyncSLMClient, AsyncStream, Conversation, Frame, Job, Message
from slm_client.errors import NotFound

REMEMBERED_CHARS = 4000  # about half of a small model's context


class Memory:
    """The conversations of all channels; a channel has the same one after a restart of the bot.

    Args:
        slm: the client of the server.
        most_chars: the maximum length of the earlier messages that a question is sent with; older ones are deleted.
    """

    def __init__(self, slm: AsyncSLMClient, most_chars: int = REMEMBERED_CHARS) -> None:
        self._slm = slm
        self._most_chars = most_chars

    def ask(self, channel_id: int, question: str, key: str, options: dict[str, Any]) -> ChannelAnswer:
        """Return the answer to a question in a channel; it is requested when the first frame is read."""
        return ChannelAnswer(self._slm, lambda: self._begin(channel_id, question, key, options))

    async def _begin(self, channel_id: int, question: str, key: str, options: dict[str, Any]) -> Job:
        name = f"discord-channel-{channel_id}"
        made = await self._slm.create_conversation(title=f"Discord channel {channel_id}", idempotency_key=name)
        conversation = await self._slm.conversation(made.id)
        kept = newest(answered(conversation), self._most_chars)
        for message in forgettable(conversation, kept):
            with suppress(NotFound):  # another answer in the channel has begun meanwhile
                await self._slm.delete_message(made.id, message.id, keep_replies=True)
        parent_id = kept[-1].id if kept else None
        return await self._slm.respond(made.id, question, parent_id=parent_id, idempotency_key=key, **options)


class ChannelAnswer:
    """The frames of an answer."""

    def __init__(self, slm: AsyncSLMClient, begin: Callable[[], Awaitable[Job]]) -> None:
        self._slm = slm
        self._begin = begin
        self._stream: AsyncStream | None = None

    @property
    def job_id(self) -> str | None:
        """The job's id, known from the first frame on."""
        return None if self._stream is None else self._stream.job_id

    async def __aiter__(self) -> AsyncIterator[Frame]:
        """Ask, and iterate over the frames."""
        job = await self._begin()
        self._stream = self._slm.follow(job.id)
        async for frame in self._stream:
            yield frame

    async def aclose(self) -> None:
        """Stop reading; the answer is written to its end."""
        if self._stream is not None:
            await self._stream.aclose()


def answered(conversation: Conversation) -> list[Message]:
    """Return the messages that are shown, up to the last complete answer; questions after it have no answer yet."""
    shown = conversation.shown()
    while shown and not (shown[-1].role == "assistant" and shown[-1].content):
        shown.pop()
    return shown


def newest(messages: Sequence[Message], most_chars: int) -> list[Message]:
    """Return the newest messages that fit, from a question on."""
    begin, total = len(messages), 0
    while begin and (total := total + len(messages[begin - 1].content)) <= most_chars:
        begin -= 1
    while begin < len(messages) and messages[begin].role != "user":
        begin += 1
    return list(messages[begin:])


def forgettable(conversation: Conversation, kept: Sequence[Message]) -> list[Message]:
    """Return the messages that are not needed any more: neither kept nor a part of an answer that is being written."""
    written = [one for one in conversation.messages if one.status == "in_progress"]
    needed = {one.id for one in (*kept, *written)} | {one.parent_id for one in written}
    return [one for one in conversation.messages if one.id not in needed]
