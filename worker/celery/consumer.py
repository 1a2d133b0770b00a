"""Celery's consumer, made patient: neither a message nor an error reply of Redis ends the worker.

A message only says "look into the store" (`common/queue.py`), so an unreadable message is dropped: if it was a wake-up
message, the reaper sends another. Celery 5.7 by itself ends the process on such a message, and on every error reply
that is not a lost connection (MISCONF, READONLY, NOPERM, OOM, ...).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from queue import Empty
from typing import TYPE_CHECKING, Any, cast

from celery.worker.consumer import Consumer
from celery.worker.state import maybe_shutdown
from kombu import Connection
from kombu.common import ignore_errors
from kombu.transport import redis
from redis.connection import SSLConnection
from redis.exceptions import RedisError, ResponseError
from redis.sentinel import SentinelManagedConnection

from common.queue import CLUSTER_TRANSPORT
from common.redis.celery_transport import ClusterChannel, ClusterTransport
from common.redis.outage import Outage

if TYPE_CHECKING:
    from worker.celery.app import WorkerApp

BRPOP_S = 0.2  # how long Redis waits for a message before it replies that there is none; delays a worker's stop
RETRY_S = 1.0  # pause before the queue is read again
_READING = "queue not read"

log = logging.getLogger(__name__)


class Patience(redis.Channel):
    """Added to a channel of kombu: no message or error reply ends it. celery-types does not know the methods."""

    connection: AnyTransport

    def _brpop_read(self, **options: Any) -> bool | None:
        """Read the reply to BRPOP and pass the message on."""
        try:
            reply = _unless_unreadable(super()._brpop_read, **options)  # type: ignore[misc]
        except Empty:
            self.connection.outage.note_success(_READING)
            raise
        except ResponseError as err:
            self.connection.outage.note_failure(_READING, err)
            time.sleep(RETRY_S)
            raise Empty from err
        self.connection.outage.note_success(_READING)
        return reply

    def maybe_refresh_binding_expiry(self) -> None:
        """Keep the remote-control queue registered; no job needs it."""
        try:
            super().maybe_refresh_binding_expiry()  # type: ignore[misc]
        except ResponseError as err:
            log.debug("the queue of remote control was not refreshed: %s", err)

    def _receive_one(self, client: Any) -> bool | None:
        """Read a remote-control message and pass it on."""
        return _unless_unreadable(super()._receive_one, client)  # type: ignore[misc]


def _unless_unreadable(read: Callable[..., bool | None], *args: Any, **options: Any) -> bool | None:
    """A boundary: an error that a message causes only drops this message."""
    try:
        return read(*args, **options)
    except (Empty, RedisError, OSError):
        raise
    except Exception:
        log.exception("dropped an unreadable message")
        return True


class Rediscovering(SentinelManagedConnection):
    """redis-py's connection to a primary, but it asks the Sentinels again whenever it connects."""

    def _connect(self) -> Any:
        self.host, self.port = self.connection_pool.get_master_address()
        return super()._connect()  # type: ignore[no-untyped-call]


class RediscoveringTls(Rediscovering, SSLConnection):
    """The same with TLS."""


class SentinelChannel(Patience, redis.SentinelChannel):
    """kombu's channel for Sentinels, with patience."""

    connection_class = Rediscovering
    connection_class_ssl = RediscoveringTls


class Transport(redis.Transport):
    """kombu's transport, with our channel. `outage` must be set before anything is read."""

    Channel = Patience
    brpop_timeout = BRPOP_S  # type: ignore[assignment]  # Redis takes parts of a second
    outage: Outage


class SentinelTransport(redis.SentinelTransport):
    """The same for Sentinels."""

    Channel = SentinelChannel
    brpop_timeout = BRPOP_S  # type: ignore[assignment]
    outage: Outage


class PatientClusterChannel(Patience, ClusterChannel):
    """Our channel for a cluster, with patience."""


class PatientClusterTransport(ClusterTransport):
    """The same for a cluster."""

    Channel = PatientClusterChannel
    brpop_timeout = BRPOP_S  # type: ignore[assignment]
    outage: Outage


AnyTransport = Transport | SentinelTransport | PatientClusterTransport
_OURS: dict[str, type[AnyTransport]] = {
    "redis": Transport,
    "rediss": Transport,
    "sentinel": SentinelTransport,
    CLUSTER_TRANSPORT: PatientClusterTransport,
}


class PatientConsumer(Consumer):
    """Waits while Redis cannot be used, and logs it once; Celery's setting `worker_consumer` names this class.

    Needs `broker_channel_error_retry`: Celery then connects again after error answers too.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        is_redis = not (self.app.conf.broker_url or "").startswith("amqp")
        self._outage = cast("WorkerApp", self.app).runtime.outage if is_redis else Outage(log, "RabbitMQ")

    def connection_for_read(self, heartbeat: float | None = None) -> Connection:
        """Return a connection that has been established."""
        connection = self.app.connection_for_read(heartbeat=heartbeat)
        if connection.transport_cls in ("amqp", "amqps"):
            return self._connected_to_rabbitmq(connection)
        ours = _OURS[connection.transport_cls]
        connection.transport_cls = ours  # type: ignore[assignment]
        connection.resolve_aliases = {ours: ours.driver_type}  # type: ignore[dict-item]  # its name in logs
        cast(AnyTransport, connection.transport).outage = self._outage
        return self.ensure_connected(connection)

    def ensure_connected(self, conn: Connection) -> Connection:
        """Connect, however long it takes; only the worker's shutdown ends the wait."""
        while True:
            maybe_shutdown()
            try:
                conn.connect()
            except (*conn.connection_errors, *conn.channel_errors) as err:
                self._wait(err)
            else:
                self.first_connection_attempt = False
                return conn

    def _connected_to_rabbitmq(self, connection: Connection) -> Connection:
        """Connect by kombu's own transport, which needs no patience: an unreadable message is refused by Celery."""
        self.ensure_connected(connection)
        self._outage.note_success(_READING)
        return connection

    def on_connection_error_before_connected(self, exc: Exception) -> None:
        """Wait before the next attempt."""
        self._wait(exc)

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        """Wait before the next attempt, and close the broken connection."""
        self._wait(exc)
        connection, self.connection = self.connection, None
        if connection is not None:
            ignore_errors(connection, connection.close)

    def _wait(self, err: BaseException) -> None:
        self._outage.note_failure(_READING, err)
        time.sleep(RETRY_S)
