"""One line of a terminal that says what is going on; nothing is written anywhere else."""

from __future__ import annotations

from rich.console import Console
from rich.status import Status
from rich.text import Text


class LiveLine:
    """A context manager: its end removes the line.

    Args:
        console: writes to the terminal; None: show nothing.
        line: the first text.
    """

    def __init__(self, console: Console | None, line: str) -> None:
        self._status = None if console is None else Status(Text(line), console=console)

    @property
    def is_shown(self) -> bool:
        """Whether anybody can see the line."""
        return self._status is not None

    def show(self, line: str) -> None:
        """Replace the text."""
        if self._status is not None:
            self._status.update(Text(line))

    def end(self) -> None:
        """Remove the line. A second call does nothing."""
        if self._status is not None:
            self._status.stop()

    def __enter__(self) -> LiveLine:
        if self._status is not None:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()
