"""Counts failed Redis commands of a process below the retries, which hide them from all other code."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeVar

from redis.backoff import AbstractBackoff
from redis.retry import Retry

T = TypeVar("T")


class RedisTrouble:
    """Receives the outcome of every try of a command.

    Args:
        on_error: called after each failed try, whether it is repeated or not.
        on_reconnect: called when Redis answers again after a failure.
    """

    def __init__(self, on_error: Callable[[], None], on_reconnect: Callable[[], None]) -> None:
        self._on_error = on_error
        self._on_reconnect = on_reconnect
        self._is_away = False

    def note_failure(self) -> None:
        """Record that a try failed."""
        self._is_away = True
        self._on_error()

    def note_success(self) -> None:
        """Record that a try succeeded."""
        if self._is_away:
            self._is_away = False
            self._on_reconnect()


class WatchedRetry(Retry):
    """redis-py's retry policy with an observer. Each connection copies its policy; all copies share the observer."""

    def __init__(self, backoff: AbstractBackoff, retries: int, trouble: RedisTrouble) -> None:
        super().__init__(backoff, retries)
        self._trouble = trouble

    def __deepcopy__(self, memo: dict[int, Any]) -> WatchedRetry:
        twin = WatchedRetry(copy.deepcopy(self._backoff, memo), self._retries, self._trouble)
        twin.update_supported_errors(self._supported_errors)
        return twin

    def call_with_retry(self, do: Callable[[], T], *args: Any, **kwargs: Any) -> T:
        """Call `do` like redis-py's method, and record each outcome."""

        def watched() -> T:
            try:
                answer = do()
            except self._supported_errors:
                self._trouble.note_failure()
                raise
            self._trouble.note_success()
            return answer

        return super().call_with_retry(watched, *args, **kwargs)
