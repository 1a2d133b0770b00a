"""Limits how many requests an owner may send per minute."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage, RedisStorage, Storage
from limits.strategies import SlidingWindowCounterRateLimiter
from redis import Redis

from common.errors import RateLimitExceeded
from common.redis import keys


@dataclass(frozen=True, slots=True)
class Allowance:
    """The rest of a rate limit; `reset_s` is the time of its next increase, in seconds since the epoch."""

    limit: int
    remaining: int
    reset_s: int

    @classmethod
    def used_up(cls, err: RateLimitExceeded) -> Allowance | None:
        """Return the empty allowance after an error; None if the error does not name the limit."""
        if err.limit is None:
            return None
        return cls(err.limit, 0, math.ceil(time.time()) + (err.retry_after_s or 0))


class Rates:
    """Counts requests in a sliding window.

    Args:
        storage: stores the counts.
        counted: the name of the counted requests, for messages.
    """

    def __init__(self, storage: Storage, counted: str) -> None:
        self._limiter = SlidingWindowCounterRateLimiter(storage)
        self._counted = counted

    @classmethod
    def of_all_processes(cls, redis: Redis, counted: str) -> Rates:
        """Count in Redis, by its clock, so that API processes on several machines share the count.

        `take` may raise `redis.exceptions.RedisError`.
        """
        pool = redis.connection_pool
        return cls(RedisStorage("redis://", connection_pool=pool, key_prefix=keys.RATES), counted)

    @classmethod
    def of_this_process(cls, counted: str) -> Rates:
        """Count in memory, for requests that are too cheap for a round trip to Redis."""
        return cls(MemoryStorage(), counted)

    def take(self, owner: str, per_minute: int) -> Allowance:
        """Count a request.

        Raises:
            RateLimitExceeded: the limit is reached; this request is not counted.
        """
        item = RateLimitItemPerMinute(per_minute)
        is_allowed = self._limiter.hit(item, owner)
        window = self._limiter.get_window_stats(item, owner)
        if is_allowed:
            return Allowance(per_minute, window.remaining, math.ceil(window.reset_time))
        wait_s = max(1, math.ceil(window.reset_time - time.time()))
        message = f"You may send {per_minute} {self._counted} per minute; try again in {wait_s} s."
        raise RateLimitExceeded(message, retry_after_s=wait_s, limit=per_minute)
