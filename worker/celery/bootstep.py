"""Starts and stops the runtime as a Celery bootstep, before the consumer takes its first message."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable
from typing import Any, Protocol

from celery import bootsteps
from celery.signals import worker_shutdown, worker_shutting_down
from celery.worker import state


class Runtime(Protocol):
    """The parts of a process behind Celery."""

    def start(self, interrupted: Callable[[], bool]) -> None:
        """Start; return when it can take messages, or as soon as `interrupted` returns True."""

    def begin_drain(self) -> None:
        """Take no more jobs. Returns immediately."""

    def stop(self) -> None:
        """Stop."""


class RuntimeStep(bootsteps.StartStopStep):
    """Starts and stops the runtime with the worker. An exception from `start` ends the worker."""

    requires = ("celery.worker.components:Pool",)

    def __init__(self, parent: Any, **kwargs: Any) -> None:
        super().__init__(parent, **kwargs)
        self._runtime: Runtime = parent.app.make_runtime(parent.hostname)
        worker_shutting_down.connect(self._on_shutting_down, weak=False)
        worker_shutdown.connect(_end_process, weak=False)

    def start(self, parent: Any) -> None:
        """Start the runtime, which loads the model if one is wanted; the consumer starts afterwards."""
        del parent
        self._runtime.start(interrupted=_is_ending)

    def stop(self, parent: Any) -> None:
        """Stop the runtime."""
        del parent
        self._runtime.stop()

    def _on_shutting_down(self, **_: Any) -> None:
        self._runtime.begin_drain()


def _end_process(sender: Any, **_: Any) -> None:
    """Exit without the interpreter's cleanup: everything has stopped, and unloading torch takes a second or more."""
    logging.shutdown()
    sys.stdout.flush()
    os._exit(sender.exitcode or 0)


def _is_ending() -> bool:
    flags: tuple[int | bool | None, ...] = (state.should_stop, state.should_terminate)  # None, or an exit code: 0 too
    return any(flag is not None and flag is not False for flag in flags)
