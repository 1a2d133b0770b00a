"""The clients: many open streams in one asyncio loop, which does little more than record when tokens arrive."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

HOST = "127.0.0.1"
LOOK_S = 0.05  # pause between two checks of all streams
OPEN = b'data: {"status": "Generating response..."}'
TOKEN = b'data: {"text": "'
COMPLETE = b'data: {"status": "Response complete!"'


@dataclass(frozen=True, slots=True)
class Token:
    """A received token: its number in the text, its event's id, and the times of write and read (monotonic, ns)."""

    number: int
    event_id: int
    written: int
    read: int


class Stream(asyncio.Protocol):
    """One client with one stream; `on_change` is called when it opens and when it ends."""

    def __init__(self, request: bytes, on_change: Callable[[], None]) -> None:
        self.tokens: list[Token] = []
        self.is_open = False
        self.is_complete = False
        self.is_over = False
        self._request = request
        self._on_change = on_change
        self.status = b""  # the response's first line
        self.last = b""
        self._event_id = -1
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the request."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Parse the received data. Each HTTP chunk is a frame, so the lines between frames are chunk sizes."""
        now = time.monotonic_ns()
        *lines, self.last = (self.last + data).split(b"\n")
        for line in lines:
            self.status = self.status or line.strip()
            self._take(line, now)

    @property
    def refusal(self) -> str | None:
        """Why the server did not open the stream: the error's code and text; None if it did."""
        if b" 200 " in self.status:
            return None
        try:
            error = json.loads(self.last)
        except ValueError:
            return self.status.decode() or "no answer"
        return f"{error['code']}: {error['error']}"

    def _take(self, line: bytes, now: int) -> None:
        if line.startswith(b"id: "):
            self._event_id = int(line[4:])
        elif line.startswith(TOKEN):
            number, _, written = line.split(b'"', 4)[3].partition(b"@")
            self.tokens.append(Token(int(number), self._event_id, int(written), now))
        elif line.startswith(OPEN):
            self.is_open = True
            self._on_change()
        elif line.startswith(COMPLETE) and self._transport is not None:
            self.is_complete = True
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Mark the stream as ended, with or without an error."""
        del exc
        self.is_over = True
        self._on_change()


class Clients:
    """`count` clients of the APIs at these ports, in turn; at most `at_once` of them are opening their streams."""

    def __init__(self, ports: Sequence[int], count: int, at_once: int) -> None:
        self._changed = asyncio.Event()
        self._opening = asyncio.Semaphore(at_once)
        self._ports = [ports[number % len(ports)] for number in range(count)]
        self.streams = [Stream(_request(port), self._changed.set) for port in self._ports]
        self.not_connected: list[OSError] = []

    async def open(self) -> None:
        """Connect all clients; returns when each stream has its first frame or has failed."""
        await asyncio.gather(*map(self._open, self.streams, self._ports))

    async def _open(self, stream: Stream, port: int) -> None:
        async with self._opening:
            await self._connect(stream, port)
            while not stream.is_open and not stream.is_over:
                await asyncio.sleep(LOOK_S)

    async def have(self, num_tokens: int) -> None:
        """Read until each stream has that many tokens, or has ended."""
        while not all(len(one.tokens) >= num_tokens or one.is_over for one in self.streams):
            await asyncio.sleep(LOOK_S)

    async def end(self) -> None:
        """Read all streams to their end."""
        await self._until(lambda one: one.is_over)

    async def _connect(self, stream: Stream, port: int) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: stream, HOST, port)
        except OSError as err:
            self.not_connected.append(err)
            stream.is_over = True

    async def _until(self, condition: Callable[[Stream], bool]) -> None:
        while not all(map(condition, self.streams)):
            self._changed.clear()
            await self._changed.wait()
            await asyncio.sleep(LOOK_S)


def _request(port: int) -> bytes:
    body = json.dumps({"prompt": "Say many things."}).encode()
    head = (
        f"POST /slm/stream HTTP/1.1\r\nHost: {HOST}:{port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body
