"""Relays the server's stream to Discord messages, at the rate that Discord allows."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Protocol

from slm_client import Frame, SLMClientError

from slm_bot.transcript import Transcript

EDIT_EVERY_S = 1.2  # Discord allows five edits in five seconds


class FrameStream(Protocol):
    """An `AsyncStream` or a test double."""

    @property
    def job_id(self) -> str | None:
        """The job's id, known from the first frame on."""

    def __aiter__(self) -> AsyncIterator[Frame]:
        """Iterate over the frames."""

    async def aclose(self) -> None:
        """Stop reading."""


class Screen(Protocol):
    """A `Post` or a test double."""

    async def show(self, pages: list[str], job_id: str | None) -> None:
        """Show these pages, with a way to stop the job if there is one."""


async def relay(
    stream: FrameStream,
    screen: Screen,
    *,
    every_s: float = EDIT_EVERY_S,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Show the stream until it ends. Frames that arrive faster than they can be shown are shown together.

    Errors of the screen are raised; the stream is closed in any case.
    """
    transcript, changed = Transcript(), asyncio.Event()
    reader = asyncio.create_task(_read(stream, transcript, changed))
    try:
        while True:
            await changed.wait()
            changed.clear()
            if reader.done():
                await reader  # raises an unexpected error
            is_over = transcript.is_over
            await screen.show(transcript.pages(), None if is_over else stream.job_id)
            if is_over:
                return
            await sleep(every_s)
    finally:
        reader.cancel()
        await asyncio.wait({reader})
        await stream.aclose()


async def _read(stream: FrameStream, transcript: Transcript, changed: asyncio.Event) -> None:
    try:
        async for frame in stream:
            transcript.take(frame)
            changed.set()
        transcript.close()
    except SLMClientError as err:
        transcript.fail(err)
    finally:
        changed.set()
