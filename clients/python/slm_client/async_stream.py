"""`stream.py` for asyncio and trio."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

import anyio
import httpx
from httpx_sse import EventSource

from slm_client.cursor import StreamCursor
from slm_client.errors import SLMClientError, error_from_response
from slm_client.frame import Frame, Text
from slm_client.retry import RetryPolicy
from slm_client.stream_base import StreamBase


class AsyncStream(StreamBase):
    """Like `Stream`, for `async for`. Call `aclose` if you do not read it to its end."""

    def __init__(self, http: httpx.AsyncClient, cursor: StreamCursor, policy: RetryPolicy) -> None:
        super().__init__(cursor, policy)
        self._http = http
        self._frames = self._read()

    def __aiter__(self) -> AsyncIterator[Frame]:
        return self._frames

    async def text(self) -> AsyncIterator[str]:
        """Yield only the pieces of text."""
        async for frame in self:
            if isinstance(frame, Text):
                yield frame.piece

    async def aclose(self) -> None:
        """Stop reading. The server cancels the job after a while, unless `on_disconnect` is "continue"."""
        await self._frames.aclose()

    async def _read(self) -> AsyncGenerator[Frame, None]:
        while not self._cursor.is_over:
            try:
                async with aclosing(self._read_connection()) as frames:
                    async for frame in frames:
                        yield frame
            except (httpx.TransportError, SLMClientError) as failure:
                if self._cursor.is_over:
                    raise
                await anyio.sleep(self._retry.pause_s(failure))

    async def _read_connection(self) -> AsyncGenerator[Frame, None]:
        request = self._cursor.next_call().request(self._http)
        async with aclosing(await self._http.send(request, stream=True)) as response:
            if not response.is_success:
                await response.aread()
                raise error_from_response(response)
            if self._cursor.opened(response):
                async with aclosing(self._take_all(EventSource(response))) as frames:
                    async for frame in frames:
                        yield frame

    async def _take_all(self, source: EventSource) -> AsyncGenerator[Frame, None]:
        async with aclosing(source.aiter_sse()) as events:
            async for event in events:
                if (frame := self._cursor.take(event)) is not None:
                    self._retry.got_on()
                    yield frame
                if self._cursor.is_over:
                    return
        raise self._cursor.broke_off()
