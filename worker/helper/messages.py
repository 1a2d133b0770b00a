"""Sends and receives messages through the helper's pipes: plain data as JSON."""

from __future__ import annotations

import json
import os
from multiprocessing.connection import Connection
from multiprocessing.reduction import send_handle
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


def send_descriptor(link: Connection, descriptor: int) -> None:
    """Send a file descriptor; the other end calls `multiprocessing.reduction.recv_handle`.

    `send_handle` makes a socket of the link. While Celery stops, it sets a default timeout for new sockets, and one
    with a timeout makes the link non-blocking, too: the next `receive` would fail instead of waiting.

    Raises:
        OSError: the other end is closed.
    """
    send_handle(link, descriptor, None)
    os.set_blocking(link.fileno(), True)
