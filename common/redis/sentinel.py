"""Finds the server that Sentinels name as the primary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from redis import BlockingConnectionPool
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from common.redis import following
from common.redis.address import RedisAddress, SentinelService
from common.redis.following import Following, FollowingTls, Primary

SENTINEL_TIMEOUT_S = 1.0  # a Sentinel that does not answer in this time is passed over for the next


class NamedPrimary(Primary):
    """The primary that the Sentinels know by a name. redis-py's list of Sentinels can lose one to two threads."""

    def __init__(self, service: SentinelService, tls: Mapping[str, str | bool]) -> None:
        super().__init__()
        options = sentinel_options(service, tls)
        self._sentinels = Sentinel(service.hosts, sentinel_kwargs=options)  # type: ignore[no-untyped-call]
        self._name = service.master

    def _find(self) -> tuple[str, int]:
        found: tuple[str, int] = self._sentinels.discover_master(self._name)  # type: ignore[no-untyped-call]
        return found


def pool(address: RedisAddress, service: SentinelService, **options: Any) -> BlockingConnectionPool:
    """Return a pool of connections to the primary of `service`; `options` are those of `BlockingConnectionPool`."""
    connection_class = FollowingTls if address.tls else Following
    return following.pool(address, NamedPrimary(service, address.tls), connection_class, **options)


def sentinel_options(service: SentinelService, tls: Mapping[str, str | bool]) -> dict[str, Any]:
    """Return redis-py's arguments for connections to the Sentinels themselves."""
    return {
        "username": service.user,
        "password": service.password,
        "socket_timeout": SENTINEL_TIMEOUT_S,
        "socket_connect_timeout": SENTINEL_TIMEOUT_S,
        "retry": Retry(NoBackoff(), 0),
        "ssl": bool(tls),
        **tls,
    }


def broker_options(address: RedisAddress) -> dict[str, Any]:
    """Return Celery's options for its transport to find the primary; empty without Sentinels."""
    if address.sentinel is None:
        return {}
    return {
        "master_name": address.sentinel.master,
        "sentinel_kwargs": sentinel_options(address.sentinel, address.tls),
    }
