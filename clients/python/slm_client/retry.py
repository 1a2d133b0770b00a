"""Decides whether and when to retry a request."""

from __future__ import annotations

import random
from dataclasses import dataclass

import httpx

from slm_client.errors import ApiError, ConnectionLost, SLMClientError


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential pauses with jitter.

    The default gives a restarting server 15 to 30 s: a streamed job survives 30 s without a reader.

    Args:
        attempts: the number of retries after failures in a row; 0 for none.
        first_s: the first pause, in seconds; each further pause is twice as long.
        most_s: the longest pause, in seconds, unless the server sends Retry-After.
        patience_s: the longest accepted Retry-After, in seconds.
    """

    attempts: int = 8
    first_s: float = 0.25
    most_s: float = 8.0
    patience_s: float = 120.0

    def pause_s(self, failures: int, *, asked_s: float | None, luck: float) -> float:
        """Return the pause in seconds after that many failures in a row; never shorter than Retry-After (`asked_s`).

        `luck`, from 0 to 1, spreads the clients of a restarted server.
        """
        longest = min(self.most_s, self.first_s * 2.0 ** (failures - 1))
        if asked_s is None:
            return longest * (1 + luck) / 2
        return asked_s + self.first_s * luck


NO_RETRY = RetryPolicy(attempts=0)


class Retry:
    """Counts one call's failures since its last progress."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._policy = policy
        self._failures = 0

    def got_on(self) -> None:
        """Reset the count of failures after progress."""
        self._failures = 0

    def pause_s(self, failure: SLMClientError | httpx.TransportError) -> float:
        """Return the seconds to wait before the next attempt.

        Raises:
            SLMClientError: the failure, if a (further) retry is pointless.
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
