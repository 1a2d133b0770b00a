"""Calls native code that recurses as deeply as a client's input demands."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

STACK_BYTES = 256 * 2**20  # of address space; memory is allocated on use

T = TypeVar("T")


def call_with_deep_stack(function: Callable[[], T]) -> T:
    """Call the function on a new thread with a large stack, because a stack overflow would end the process.

    Returns its result or raises its exception after the stack has been freed.
    """
    result: Future[T] = Future()

    def run() -> None:
        try:
            result.set_result(function())
        except BaseException as error:  # any exception is passed on to the caller
            result.set_exception(error)

    usual = threading.stack_size(STACK_BYTES)
    try:
        thread = threading.Thread(target=run, name="deep-stack", daemon=True)
        thread.start()
    finally:
        threading.stack_size(usual)
    thread.join()
    return result.result()
