"""What must hold before anything is started. Each check raises `PreflightError` with one line that says what to do."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from contextlib import suppress
from pathlib import Path

LOCK_NAME = ".lock"
LEFTOVERS_S = 15.0  # how long the processes of a killed supervisor may take to end


class PreflightError(Exception):
    """The server cannot be started as asked."""


def claim_data_dir(folder: Path, *, leftovers_s: float = LEFTOVERS_S) -> int:
    """Make the folder and lock it for this server; returns the lock's file descriptor.

    Every process of the server inherits the descriptor, so the folder stays taken until the last of them has ended,
    also when their supervisor was killed. Two Redis servers on one folder would destroy its data.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as err:
        raise PreflightError(
            f"Cannot write to the data folder {folder} ({err.strerror}). Set SLM_DATA_DIR to a folder of yours."
        ) from err
    _lock(handle, folder, leftovers_s)
    os.truncate(handle, 0)
    os.pwrite(handle, str(os.getpid()).encode(), 0)
    return handle


def _lock(handle: int, folder: Path, leftovers_s: float) -> None:
    deadline = time.monotonic() + leftovers_s
    while True:
        try:
            return fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as err:
            holder = os.pread(handle, 32, 0).decode()
            if _is_alive(holder) or time.monotonic() > deadline:
                raise PreflightError(
                    f"Another start (process {holder or 'unknown'}) uses the data folder {folder}. "
                    "Stop that one first, or set SLM_DATA_DIR to another folder."
                ) from err
            time.sleep(0.1)


def _is_alive(pid: str) -> bool:
    with suppress(ProcessLookupError, ValueError):
        with suppress(PermissionError):  # somebody else's, so alive
            os.kill(int(pid), 0)
        return True
    return False


def check_port_free(host: str, port: int) -> None:
    """Raise unless a server could listen on `port` of the address `host` now."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as err:
        raise PreflightError(f"{host!r} is no address of this machine ({err.strerror}). Try --host 127.0.0.1.") from err
    with socket.socket(family, kind, protocol) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server will: old connections may linger
        try:
            probe.bind(address)
            probe.listen()
        except OSError as err:
            raise PreflightError(
                f"Cannot listen on {host} port {port} ({err.strerror}). Choose others with --port and --host."
            ) from err


def check_redis(url: str) -> None:
    """Raise unless the Redis server at `url` answers."""
    from redis.exceptions import RedisError

    from common.redis_client import connect

    try:
        with connect(url, retries=0) as client:
            client.ping()
    except (RedisError, ValueError) as err:
        raise PreflightError(
            f"The Redis server that SLM_REDIS_URL names does not answer ({err}). "
            "Start it, correct the address, or unset SLM_REDIS_URL to have one started."
        ) from err


def is_loopback(host: str) -> bool:
    """Whether only programs on this machine can reach a server that listens on `host`."""
    return host == "localhost" or host == "::1" or host.startswith("127.")
