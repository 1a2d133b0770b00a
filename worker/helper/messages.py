"""What goes through the helper's pipes: plain data, as JSON."""

from __future__ import annotations

import json
from multiprocessing.connection import Connection
from typing import Any, Protocol


class Services(Protocol):
    """What the children of a helper do. It is made in the helper process, without arguments; children inherit it."""

    def configure(self, name: str, value: Any) -> None:
        """Learn something that children need; called in the helper itself, so it must be harmless and short."""
        ...

    def serve(self, service: str, link: Connection) -> None:
        """Be a child of that kind: serve the worker at the other end of the link until it is closed."""
        ...


def send(link: Connection, message: Any) -> None:
    """Send one message. Raises `OSError` if nobody reads any more."""
    link.send_bytes(json.dumps(message).encode())


def receive(link: Connection) -> Any:
    """Wait for the next message. Raises `EOFError` or `OSError` if nobody writes any more."""
    return json.loads(link.recv_bytes())
