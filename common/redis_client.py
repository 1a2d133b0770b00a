"""Connections to Redis, made alike in every process."""

from __future__ import annotations

from redis import Redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

SOCKET_TIMEOUT_S = 5.0
HEALTH_CHECK_S = 10  # a connection idle for longer is pinged before use: half-open ones are found


def connect(url: str, *, retries: int = 3) -> Redis:
    """A client with a connection pool of its own; nothing is sent yet.

    A failed command is repeated up to `retries` times (20 ms to 0.5 s apart), also when its answer alone was lost:
    every write of ours is idempotent.
    """
    return Redis.from_url(
        url,
        decode_responses=True,
        socket_timeout=SOCKET_TIMEOUT_S,
        socket_connect_timeout=SOCKET_TIMEOUT_S,
        health_check_interval=HEALTH_CHECK_S,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.02), retries),
    )
