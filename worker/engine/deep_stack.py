"""Calls into native code that recurses as deep as a client's input says."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

STACK_BYTES = 256 * 2**20  # of address space; memory is taken as it is used

T = TypeVar("T")


def call_with_deep_stack(function: Callable[[], T]) -> Future[T]:
    """Call the function on a thread of its own with a large stack: to overflow one would end the process.

    The thread ends with the process, without waiting for the call.
    """
    result: Future[T] = Future()

    def run() -> None:
        try:
            result.set_result(function())
        except BaseException as error:  # the caller's business, whatever it is
            result.set_exception(error)

    usual = threading.stack_size(STACK_BYTES)
    try:
        threading.Thread(target=run, name="deep-stack", daemon=True).start()
    finally:
        threading.stack_size(usual)
    return result
