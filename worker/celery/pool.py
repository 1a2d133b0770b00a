"""The Celery pool: one thread per running job."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery.concurrency.base import apply_target
from celery.concurrency.thread import ApplyResult  # type: ignore[attr-defined]  # celery-types lacks it
from celery.concurrency.thread import TaskPool as ThreadPool
from kombu.asynchronous import get_event_loop


class TaskPool(ThreadPool):
    """Celery's thread pool, with one correction: a task that ends wakes the event loop.

    With early acks and `worker_disable_prefetch` nothing else wakes it, and the next message would wait for the loop's
    1 s timer.
    """

    def on_apply(
        self,
        target: Callable[..., Any],
        args: tuple[Any, ...] | None = None,
        kwargs: dict[str, Any] | None = None,
        callback: Callable[..., Any] | None = None,
        accept_callback: Callable[..., Any] | None = None,
        **_: Any,
    ) -> ApplyResult:
        """Run one task on a thread of the pool."""
        future = self.executor.submit(  # type: ignore[attr-defined]
            apply_target, target, args, kwargs, callback, accept_callback
        )
        future.add_done_callback(lambda _future: _wake_event_loop())
        return ApplyResult(future)


def _wake_event_loop() -> None:
    loop = get_event_loop()
    if loop is not None:
        loop.call_soon(_nothing)


def _nothing() -> None:
    """Do nothing: the call only wakes the loop."""
