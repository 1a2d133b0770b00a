"""Connects to Redis in the same way in every process, and translates failures into API errors."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

from redis import BlockingConnectionPool, Redis
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import MasterDownError, NoPermissionError, OutOfMemoryError, ReadOnlyError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry

from common.errors import InternalError, RedisFull, RedisUnavailable, SLMError
from common.redis import cluster, sentinel
from common.redis.address import RedisAddress
from common.redis.failures import RedisTrouble, WatchedRetry

SOCKET_TIMEOUT_S = 5.0
MAX_CONNECTIONS = 64  # per process; each is busy for less than a millisecond at a time
FULL_RETRY_S = 30  # jobs expire and free their memory
HEALTH_CHECK_S = 10  # a connection idle for longer is pinged before use, to detect half-open ones

_AWAY = (RedisConnectionError, RedisTimeoutError, ReadOnlyError, MasterDownError)
# Codes without an exception class; Redis 6 puts the code inside the message of the script that failed.
_NOT_NOW = re.compile(r"\b(READONLY|MISCONF|MASTERDOWN|NOREPLICAS|BUSY|UNBLOCKED)\b")
_FULL = "command not allowed when used memory > 'maxmemory'"


def connect(url: str, *, retries: int = 3, trouble: RedisTrouble | None = None) -> Redis:
    """Return a client with its own connection pool; sends nothing yet. `url` must be readable by `RedisAddress`.

    A failed command is repeated up to `retries` times (20 ms to 0.5 s apart), even if only its answer was lost, since
    all our writes are idempotent. When all connections are in use, a command waits for a free one, instead of failing
    as with redis-py's default pool. `trouble` is notified of failures.

    Raises:
        ValueError: the URL cannot be used.
    """
    return Redis.from_pool(_pool(RedisAddress.parse(url), _retry(retries, trouble)))


def _retry(retries: int, trouble: RedisTrouble | None) -> Retry:
    backoff = ExponentialBackoff(cap=0.5, base=0.02)
    return Retry(backoff, retries) if trouble is None else WatchedRetry(backoff, retries, trouble)


def _pool(address: RedisAddress, retry: Retry) -> BlockingConnectionPool:
    return _maker(address)(
        max_connections=MAX_CONNECTIONS,
        timeout=SOCKET_TIMEOUT_S,
        decode_responses=True,
        encoding_errors="replace",  # invalid UTF-8 that someone publishes on our channels must not end a thread
        socket_timeout=SOCKET_TIMEOUT_S,
        socket_connect_timeout=SOCKET_TIMEOUT_S,
        health_check_interval=HEALTH_CHECK_S,
        retry=retry,
    )


def _maker(address: RedisAddress) -> Callable[..., BlockingConnectionPool]:
    if address.sentinel is not None:
        return partial(sentinel.pool, address, address.sentinel)
    if address.cluster:
        return partial(cluster.pool, address, address.cluster)
    return partial(BlockingConnectionPool.from_url, address.client_url)


def explain(err: RedisError) -> SLMError:
    """Return the error for a client after a failed command; a reply that only a bug can cause gives `InternalError`."""
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
    """Return whether the same command can succeed later, for example after an operator restores a permission."""
    return explain(err).retryable or isinstance(err, NoPermissionError) or "NOPERM" in str(err)
