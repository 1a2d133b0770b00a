"""A generation piece by piece, over as many connections as it takes."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import closing

import httpx
from httpx_sse import EventSource

from slm_client.cursor import StreamCursor
from slm_client.errors import SLMClientError, error_from_response
from slm_client.frame import Frame, Text
from slm_client.retry import Retry, RetryPolicy


class Stream:
    """Iterates over the frames, each once and in order. A break is mended behind the last frame that came.

    Iterating raises `ApiError` where the job fails and `ConnectionLost` where the server stays away.
    """

    def __init__(self, http: httpx.Client, cursor: StreamCursor, policy: RetryPolicy) -> None:
        self._http = http
        self._cursor = cursor
        self._retry = Retry(policy)
        self._frames = self._read()

    @property
    def job_id(self) -> str | None:
        """The job: known from the first frame on. What `cancel` takes."""
        return self._cursor.job_id

    @property
    def last_event_id(self) -> str | None:
        """The last event that came. With `job_id` it lets another process go on: `SLMClient.follow`."""
        return self._cursor.last_event_id

    def __iter__(self) -> Iterator[Frame]:
        return self._frames

    def text(self) -> Iterator[str]:
        """The answer's pieces alone."""
        for frame in self:
            if isinstance(frame, Text):
                yield frame.piece

    def close(self) -> None:
        """Read no further. The server cancels the job after a while, unless it was told to continue."""
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
