"""What goes through the helper's pipes."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from typing import Any, Protocol

from worker.helper.limits import Limits


class Tasks(Protocol):
    """What a helper can do. It is made in the helper process; children inherit it."""

    def configure(self, name: str, value: Any) -> None:
        """Learn something that later requests need; called in the helper itself, so it must be harmless and short."""
        ...

    def run(self, task: str, args: Any) -> Any:
        """Do the task, in a child. Arguments and result are plain data.

        Raises:
            SLMError: it cannot be done, for a reason that the client should hear.
        """
        ...


@dataclass(frozen=True, slots=True)
class Request:
    """A task to be done. `number` finds its answer."""

    number: int
    task: str
    args: Any
    limits: Limits

    def to_wire(self) -> dict[str, Any]:
        """The JSON form; `from_wire` reads it back."""
        return asdict(self)

    @classmethod
    def from_wire(cls, wire: dict[str, Any]) -> Request:
        """Read the JSON form."""
        return cls(**(wire | {"limits": Limits(**wire["limits"])}))


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a request: one of the three is set, or `value` is None because that is the result.

    `error` is an `SLMError` in wire form, `over` the text of an `OverLimit`. `is_last`: the child takes no more
    requests.
    """

    number: int
    value: Any = None
    error: dict[str, Any] | None = None
    over: str | None = None
    is_last: bool = False

    def to_wire(self) -> dict[str, Any]:
        """The JSON form; `Answer(**wire)` reads it back."""
        return asdict(self)


def send(link: Connection, message: dict[str, Any]) -> None:
    """Send one message. Raises `OSError` where nobody reads any more."""
    link.send_bytes(json.dumps(message).encode())


def receive(link: Connection) -> Any:
    """Wait for the next message. Raises `EOFError` or `OSError` where nobody writes any more."""
    return json.loads(link.recv_bytes())
