"""Limits each user to one answer at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class Busy(Exception):
    """The bot is already answering this user."""


class InFlight:
    """Tracks the users who are being answered."""

    def __init__(self) -> None:
        self._reserved: set[int] = set()

    @contextmanager
    def reserve(self, user_id: int) -> Iterator[None]:
        """Mark the user as being answered until the block ends.

        Raises:
            Busy: the user is already being answered.
        """
        if user_id in self._reserved:
            raise Busy
        self._reserved.add(user_id)
        try:
            yield
        finally:
            self._reserved.discard(user_id)
