"""Connects to the server that Sentinels name as the primary, and to its successor after a failover.

redis-py's own pool for Sentinels asks them only when a connection is taken from the pool: a command that is repeated
connects to the old primary again each time. Here each connection asks whenever it connects.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from redis import BlockingConnectionPool
from redis.backoff import NoBackoff
from redis.connection import Connection, SSLConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError
from redis.retry import Retry
from redis.sentinel import Sentinel

from common.redis.address import RedisAddress, SentinelService

SENTINEL_TIMEOUT_S = 1.0  # a Sentinel that does not answer in this time is passed over for the next

FindPrimary = Callable[[], tuple[str, int]]


class Primary:
    """Finds the primary. Called by many threads; `on_change` is called when it is another one than before."""

    def __init__(self, service: SentinelService, tls: Mapping[str, str | bool]) -> None:
        options = sentinel_options(service, tls)
        self._sentinels = Sentinel(service.hosts, sentinel_kwargs=options)  # type: ignore[no-untyped-call]
        self._name = service.master
        self._known: tuple[str, int] | None = None
        self._lock = threading.Lock()  # redis-py's list of Sentinels can lose one to two threads
        self.on_change: Callable[[], None] = lambda: None

    def __call__(self) -> tuple[str, int]:
        """Return its host and port.

        Raises:
            redis.sentinel.MasterNotFoundError: no Sentinel knows one that is up.
        """
        with self._lock:
            before, self._known = self._known, self._sentinels.discover_master(self._name)  # type: ignore[no-untyped-call]
            now: tuple[str, int] = self._known
        if before not in (None, now):
            self.on_change()
        return now


class _Following(Connection):
    """A connection to the primary. A server that has become a replica is left."""

    def __init__(self, find_primary: FindPrimary, **options: Any) -> None:
        super().__init__(**options)  # type: ignore[no-untyped-call]
        self._find_primary = find_primary

    def _connect(self) -> Any:
        self.host, self.port = self._find_primary()
        return super()._connect()  # type: ignore[no-untyped-call]

    def read_response(self, *args: Any, **options: Any) -> Any:
        try:
            return super().read_response(*args, **options)
        except ReadOnlyError as err:
            self.disconnect()  # type: ignore[no-untyped-call]
            raise RedisConnectionError("the server has become a replica") from err


class _FollowingTls(_Following, SSLConnection):
    """The same with TLS."""


def pool(address: RedisAddress, service: SentinelService, **options: Any) -> BlockingConnectionPool:
    """Return a pool of connections to the primary of `service`; `options` are those of `BlockingConnectionPool`."""
    primary = Primary(service, address.tls)
    made = BlockingConnectionPool(  # type: ignore[no-untyped-call]
        connection_class=_FollowingTls if address.tls else _Following,
        find_primary=primary,
        username=address.user,
        password=address.password,
        db=address.database,
        **address.tls,
        **options,
    )
    primary.on_change = partial(made.disconnect, inuse_connections=False)
    return made


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
