"""Connections to Redis, made alike in every process, and what their failures mean."""

from __future__ import annotations

import re

from redis import BlockingConnectionPool, Redis
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import MasterDownError, NoPermissionError, OutOfMemoryError, ReadOnlyError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from common.errors import InternalError, RedisFull, RedisUnavailable, SLMError
from common.redis_address import RedisAddress
from common.redis_trouble import RedisTrouble, WatchedRetry

SOCKET_TIMEOUT_S = 5.0
MAX_CONNECTIONS = 64  # per process; each is busy for less than a millisecond at a time
FULL_RETRY_S = 30  # jobs expire and give their memory back
HEALTH_CHECK_S = 10  # a connection idle for longer is pinged before use: half-open ones are found

_AWAY = (RedisConnectionError, RedisTimeoutError, ReadOnlyError, MasterDownError)
# Codes without a class of their own; Redis 6 hides every code in the message of the script that met it.
_NOT_NOW = re.compile(r"\b(READONLY|MISCONF|MASTERDOWN|NOREPLICAS|BUSY)\b")
_FULL = "command not allowed when used memory > 'maxmemory'"


def connect(url: str, *, retries: int = 3, trouble: RedisTrouble | None = None) -> Redis:
    """A client with a connection pool of its own; nothing is sent yet. `url` is one that `RedisAddress` reads.

    A failed command is repeated up to `retries` times (20 ms to 0.5 s apart), also when its answer alone was lost:
    every write of ours is idempotent. When all connections are in use, a command waits for one: redis-py's usual pool
    refuses the hundred-and-first. `trouble` is told of the failures.

    Raises:
        ValueError: the URL cannot be used.
    """
    backoff = ExponentialBackoff(cap=0.5, base=0.02)
    pool = BlockingConnectionPool.from_url(
        RedisAddress.parse(url).client_url,
        max_connections=MAX_CONNECTIONS,
        timeout=SOCKET_TIMEOUT_S,
        decode_responses=True,
        encoding_errors="replace",  # bytes that are no text, from a stranger on a channel of ours, end no thread
        socket_timeout=SOCKET_TIMEOUT_S,
        socket_connect_timeout=SOCKET_TIMEOUT_S,
        health_check_interval=HEALTH_CHECK_S,
        retry=Retry(backoff, retries) if trouble is None else WatchedRetry(backoff, retries, trouble),
    )
    return Redis.from_pool(pool)


def explain(err: RedisError) -> SLMError:
    """What a failed command means to a client. A reply that only a bug of ours can bring is an `InternalError`."""
    text = str(err)
    if isinstance(err, OutOfMemoryError) or _FULL in text:
        return RedisFull(
            "The job store is out of memory (SLM_REDIS_MEMORY); try again when jobs have expired.",
            retry_after_s=FULL_RETRY_S,
        )
    if isinstance(err, _AWAY) or _NOT_NOW.search(text):
        return RedisUnavailable("The job store does not answer; try again.", retry_after_s=1)
    return InternalError("The server failed; its log has the details under the request id.")


def may_pass(err: RedisError) -> bool:
    """Whether the same command can succeed later, be it because an operator gives a permission back."""
    return explain(err).retryable or isinstance(err, NoPermissionError) or "NOPERM" in str(err)
