"""Sends and receives messages through the helper's pipes: plain data as JSON."""

from __future__ import annotations

import json
from multiprocessing.connection import Connection
from typing import Any, Protocol


class Services(Protocol):
    """The services of a helper's children. Created in the helper process without arguments; children inherit it."""

    def configure(self, name: str, value: Any) -> None:
        """Set a value that children need; called in the helper itself, so it must be harmless and short."""
        ...

    def serve(self, service: str, link: Connection) -> None:
        """Run as a child for that service: serve the worker at the other end of the link until it is closed."""
        ...


def send(link: Connection, message: Any) -> None:
    """Send one message. Raises `OSError` if the other end is closed."""
    link.send_bytes(json.dumps(message).encode())


def receive(link: Connection) -> Any:
    """Wait for the next message. Raises `EOFError` or `OSError` if the other end is closed."""
    return json.loads(link.recv_bytes())
