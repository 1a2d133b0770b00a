"""Lets a waiting thread stop as soon as its result is no longer needed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TypeVar

POLL_S = 0.02  # how often a waiting thread checks it

IsGivenUp = Callable[[], bool]
T = TypeVar("T")


class GivenUp(Exception):
    """The job was given up while it waited."""


def never() -> bool:
    """Return False: the result is always needed."""
    return False


@contextmanager
def holding(lock: threading.Lock | threading.Semaphore, is_given_up: IsGivenUp) -> Iterator[None]:
    """Hold the lock for the duration of a `with` block.

    Raises:
        GivenUp: `is_given_up` became true first.
    """
    while not lock.acquire(timeout=POLL_S):
        if is_given_up():
            raise GivenUp
    try:
        yield
    finally:
        lock.release()


def wait_for(future: Future[T], is_given_up: IsGivenUp) -> T:
    """Wait for the future's result while it is needed; the future's exceptions are raised.

    Raises:
        GivenUp: `is_given_up` became true first.
    """
    while not is_given_up():
        try:
            return future.result(POLL_S)
        except TimeoutError:
            if future.done():  # the future's own error
                raise
    raise GivenUp
