"""Streams a generation and reconnects if necessary."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import closing

import httpx
from httpx_sse import EventSource

from slm_client.cursor import StreamCursor
from slm_client.errors import SLMClientError, error_from_response
from slm_client.frame import Frame, Text
from slm_client.retry import RetryPolicy
from slm_client.stream_base import StreamBase


class Stream(StreamBase):
    """Iterates over the frames, each once and in order. After a broken connection it continues after the last frame.

    Iterating raises `ApiError` if the job fails and `ConnectionLost` if the server stays unreachable.
    """

    def __init__(self, http: httpx.Client, cursor: StreamCursor, policy: RetryPolicy) -> None:
        super().__init__(cursor, policy)
        self._http = http
        self._frames = self._read()

    def __iter__(self) -> Iterator[Frame]:
        return self._frames

    def text(self) -> Iterator[str]:
        """Yield only the pieces of text."""
        for frame in self:
            if isinstance(frame, Text):
                yield frame.piece

    def close(self) -> None:
        """Stop reading. The server cancels the job after a while, unless `on_disconnect` is "continue"."""
        self._frames.close()

    def _read(self) -> Generator[Frame, None, None]:
        while not self._cursor.is_over:
            try:
                yield from self._read_connection()
            except (httpx.TransportError, SLMClientError) as failure:
                if self._cursor.is_over:
                    raise
                time.sleep(self._retry.pause_s(failure))

    def _read_connection(self) -> Iterator[Frame]:
        request = self._cursor.next_call().request(self._http)
        with closing(self._http.send(request, stream=True)) as response:
            if not response.is_success:
                response.read()
                raise error_from_response(response)
            if self._cursor.opened(response):
                yield from self._take_all(EventSource(response))

    def _take_all(self, source: EventSource) -> Iterator[Frame]:
        for event in source.iter_sse():
            if (frame := self._cursor.take(event)) is not None:
                self._retry.got_on()
                yield frame
            if self._cursor.is_over:
                return
        raise self._cursor.broke_off()
