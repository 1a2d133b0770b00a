"""Checks made before anything is started. Each raises `PreflightError` with one line that says what to do."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from redis import Redis

    from common.settings import Settings


class PreflightError(Exception):
    """The server cannot be started as asked."""


def check_port_free(host: str, port: int) -> None:
    """Raise unless a server could listen on `port` of the address `host` now."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as err:
        raise PreflightError(
            f"{host!r} is not an address of this machine ({err.strerror}). Try --host 127.0.0.1."
        ) from err
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does: old connections may linger
        try:
            probe.bind(address)
            probe.listen()
        except OSError as err:
            raise PreflightError(
                f"Cannot listen on {host} port {port} ({err.strerror}). Choose another port or host (--port, --host)."
            ) from err


def check_redis(url: str) -> None:
    """Raise unless the Redis server at `url` answers."""
    from redis.exceptions import RedisError

    from common.redis.client import connect

    try:
        with connect(url, retries=0) as client:
            client.ping()
    except (RedisError, ValueError) as err:
        raise PreflightError(
            f"The Redis server that SLM_REDIS_URL names does not answer ({err}). "
            "Start it, correct the address, or unset SLM_REDIS_URL to have one started."
        ) from err


def check_access(settings: Settings, redis: Redis) -> None:
    """Raise if access is not restricted: API keys, a loopback address, or an explicit SLM_INSECURE is required."""
    from common.binding import InsecureBinding, check_binding

    try:
        check_binding(settings, redis)
    except InsecureBinding as err:
        raise PreflightError(str(err)) from err
