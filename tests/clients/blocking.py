"""The asynchronous client with the interface of the blocking one, so that one test can use both."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

from slm_client import AsyncSLMClient, AsyncStream, Frame


class BlockingStream:
    """An AsyncStream, read on a loop that runs only while somebody reads."""

    def __init__(self, runner: asyncio.Runner, stream: AsyncStream) -> None:
        self._runner = runner
        self._stream = stream

    @property
    def job_id(self) -> str | None:
        return self._stream.job_id

    @property
    def last_event_id(self) -> str | None:
        return self._stream.last_event_id

    def __iter__(self) -> Iterator[Frame]:
        return self._each(aiter(self._stream))

    def text(self) -> Iterator[str]:
        return self._each(self._stream.text())

    def close(self) -> None:
        self._runner.run(self._stream.aclose())

    def _each(self, source: Any) -> Iterator[Any]:
        async def following() -> Any:
            return await anext(source)

        while True:
            try:
                yield self._runner.run(following())
            except StopAsyncIteration:
                return


class BlockingClient:
    """An AsyncSLMClient whose methods block."""

    def __init__(self, url: str, **options: Any) -> None:
        self._runner = asyncio.Runner()
        self._client = AsyncSLMClient(url, **options)

    def __enter__(self) -> BlockingClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.run(self._client.aclose())
        self._runner.close()

    def stream(self, *args: Any, **options: Any) -> BlockingStream:
        return BlockingStream(self._runner, self._client.stream(*args, **options))

    def follow(self, *args: Any, **options: Any) -> BlockingStream:
        return BlockingStream(self._runner, self._client.follow(*args, **options))

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)
        return lambda *args, **options: self._runner.run(method(*args, **options))
