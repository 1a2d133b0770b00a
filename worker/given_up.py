"""How a thread that waits for something learns that nobody needs it any more."""

from __future__ import annotations

from collections.abc import Callable

IsGivenUp = Callable[[], bool]


class GivenUp(Exception):
    """The job was given up while it waited."""


def never() -> bool:
    """For what is always waited for to its end."""
    return False
