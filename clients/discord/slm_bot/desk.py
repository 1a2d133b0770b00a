"""Who is being answered: each user once at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class Busy(Exception):
    """The user is being answered already."""


class Desk:
    """Gives out seats."""

    def __init__(self) -> None:
        self._seated: set[int] = set()

    @contextmanager
    def seat(self, user_id: int) -> Iterator[None]:
        """The user's only seat, until the block ends.

        Raises:
            Busy: it is taken.
        """
        if user_id in self._seated:
            raise Busy
        self._seated.add(user_id)
        try:
            yield
        finally:
            self._seated.discard(user_id)
