"""When to ask again, and when to give up."""

from __future__ import annotations

import random
from dataclasses import dataclass

import httpx

from slm_client.errors import ApiError, ConnectionLost, SLMClientError


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential pauses with jitter.

    The default gives a restarting server 15 to 30 s: a job that is streamed lives on for 30 s without a reader.

    Args:
        attempts: how often to try again after failures in a row; 0 never.
        first_s: the first pause; each further one is twice as long.
        most_s: the longest pause of ours.
        patience_s: the longest Retry-After that is waited for.
    """

    attempts: int = 8
    first_s: float = 0.25
    most_s: float = 8.0
    patience_s: float = 120.0

    def pause_s(self, failures: int, *, asked_s: float | None, luck: float) -> float:
        """The pause after that many failures in a row: never shorter than the server asked for.

        `luck`, from 0 to 1, spreads the clients of a server that has come back.
        """
        longest = min(self.most_s, self.first_s * 2.0 ** (failures - 1))
        if asked_s is None:
            return longest * (1 + luck) / 2
        return asked_s + self.first_s * luck


class Retry:
    """Counts one call's failures since it last got on."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._failures = 0

    def got_on(self) -> None:
        """There was progress: what failed before counts no more."""
        self._failures = 0

    def pause_s(self, failure: SLMClientError | httpx.TransportError) -> float:
        """How long to wait before the next attempt.

        Raises:
            SLMClientError: the failure, where there is no point in trying (again).
        """
        error = _as_ours(failure)
        self._failures += 1
        asked_s = error.retry_after_s if isinstance(error, ApiError) else None
        if not self._is_worthwhile(error, asked_s):
            raise error from (None if error is failure else failure)
        luck = random.random()  # noqa: S311 - no secret
        return self._policy.pause_s(self._failures, asked_s=asked_s, luck=luck)

    def _is_worthwhile(self, error: SLMClientError, asked_s: float | None) -> bool:
        if self._failures > self._policy.attempts or (asked_s or 0) > self._policy.patience_s:
            return False
        return isinstance(error, ConnectionLost) or (isinstance(error, ApiError) and error.is_worth_repeating)


def _as_ours(failure: SLMClientError | httpx.TransportError) -> SLMClientError:
    if isinstance(failure, SLMClientError):
        return failure
    return ConnectionLost(f"{type(failure).__name__}: {failure}")
