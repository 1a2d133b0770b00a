"""Connects to whichever server is the primary now, and to its successor after a failover.

redis-py's own pool for Sentinels asks them only when a connection is taken from the pool: a command that is repeated
connects to the old primary again each time. Here each connection asks whenever it connects.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

from redis import BlockingConnectionPool
from redis.connection import Connection, SSLConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError, ResponseError

from common.redis.address import RedisAddress

FindPrimary = Callable[[], tuple[str, int]]


class Primary(ABC):
    """Finds the primary. Called by many threads; `on_change` is called when it is another one than before."""

    def __init__(self) -> None:
        self._known: tuple[str, int] | None = None
        self._lock = threading.Lock()
        self.on_change: Callable[[], None] = lambda: None

    def __call__(self) -> tuple[str, int]:
        """Return its host and port.

        Raises:
            redis.exceptions.ConnectionError: nobody knows one that is up.
        """
        with self._lock:
            before, self._known = self._known, self._find()
            now = self._known
        if before not in (None, now):
            self.on_change()
        return now

    @abstractmethod
    def _find(self) -> tuple[str, int]:
        """Return the host and port of the primary; called by one thread at a time."""


class Following(Connection):
    """A connection to the primary. A server that is the primary no longer is left."""

    leave_on: ClassVar[tuple[type[ResponseError], ...]] = (ReadOnlyError,)  # the answers of such a server

    def __init__(self, find_primary: FindPrimary, **options: Any) -> None:
        super().__init__(**options)  # type: ignore[no-untyped-call]
        self._find_primary = find_primary

    def _connect(self) -> Any:
        self.host, self.port = self._find_primary()
        return super()._connect()  # type: ignore[no-untyped-call]

    def read_response(self, *args: Any, **options: Any) -> Any:
        """Return the reply.

        Raises:
            redis.exceptions.ConnectionError: the server must be left; the connection is closed.
        """
        try:
            return super().read_response(*args, **options)
        except self.leave_on as err:
            self.disconnect()  # type: ignore[no-untyped-call]
            raise RedisConnectionError(f"the server is no longer the primary ({err})") from err


class FollowingTls(Following, SSLConnection):
    """The same with TLS."""


def pool(
    address: RedisAddress, primary: Primary, connection_class: type[Following], **options: Any
) -> BlockingConnectionPool:
    """Return a pool of connections to the primary; `options` are those of `BlockingConnectionPool`."""
    made = BlockingConnectionPool(  # type: ignore[no-untyped-call]
        connection_class=connection_class,
        find_primary=primary,
        username=address.user,
        password=address.password,
        db=address.database,
        **address.tls,
        **options,
    )
    primary.on_change = partial(made.disconnect, inuse_connections=False)
    return made
