"""Calls into native code that recurses as deep as a client's input says."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

STACK_BYTES = 256 * 2**20  # of address space; memory is taken as it is used

T = TypeVar("T")


def call_with_deep_stack(function: Callable[[], T]) -> T:
    """Call the function on a thread of its own with a large stack: to overflow one would end the process.

    Returns what it returns, raises what it raises, when the stack has been given back.
    """
    result: Future[T] = Future()

    def run() -> None:
        try:
            result.set_result(function())
        except BaseException as error:  # the caller's business, whatever it is
            result.set_exception(error)

    usual = threading.stack_size(STACK_BYTES)
    try:
        thread = threading.Thread(target=run, name="deep-stack", daemon=True)
        thread.start()
    finally:
        threading.stack_size(usual)
    thread.join()
    return result.result()
