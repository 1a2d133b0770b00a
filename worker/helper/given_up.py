"""How a thread that waits for something learns that nobody needs it any more."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

LOOK_S = 0.02  # how soon a waiting thread learns of it

IsGivenUp = Callable[[], bool]
T = TypeVar("T")


class GivenUp(Exception):
    """The job was given up while it waited."""


def never() -> bool:
    """For what is always waited for to its end."""
    return False


def wait_for(future: Future[T], is_given_up: IsGivenUp) -> T:
    """Wait for the future's result, as long as somebody needs it; raises what it raises.

    Raises:
        GivenUp: `is_given_up` became true first.
    """
    while not is_given_up():
        try:
            return future.result(LOOK_S)
        except TimeoutError:
            if future.done():  # the error is its own
                raise
    raise GivenUp
