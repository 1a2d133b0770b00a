"""What must hold before anything is started. Each check raises `PreflightError` with one line that says what to do."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from redis import Redis

    from common.settings import Settings

LEFTOVERS_S = 30.0  # how long the processes of a killed start may take to end


class PreflightError(Exception):
    """The server cannot be started as asked."""


@dataclass(frozen=True, slots=True)
class DataDirClaim:
    """Two locks on a data folder, as file descriptors: one of this process, one that its children inherit.

    The inherited one stays held until the last child has ended, also when this process was killed: two Redis servers on
    one folder would destroy its data.
    """

    own: int
    inherited: int

    def announce(self, redis_url: str) -> None:
        """Tell programs beside the server where its Redis is (`announced_redis`)."""
        os.pwrite(self.own, f"{os.getpid()}\n{redis_url}\n".encode(), 0)

    def release(self) -> None:
        """Let another start have the folder, as far as this process is concerned."""
        os.close(self.own)
        os.close(self.inherited)


def claim_data_dir(folder: Path, *, leftovers_s: float = LEFTOVERS_S) -> DataDirClaim:
    """Make the folder and take it for this server, after waiting for what a killed start may have left.

    Raises:
        PreflightError: it cannot be written, or another server uses it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        claim = DataDirClaim(_open(folder / "start.lock"), _open(folder / "processes.lock"))
    except OSError as err:
        raise PreflightError(
            f"Cannot write to the data folder {folder} ({err.strerror}). Set SLM_DATA_DIR to a folder of yours."
        ) from err
    if not _lock(claim.own, 0) or not _lock(claim.inherited, leftovers_s):
        holder = os.pread(claim.own, 32, 0).decode().partition("\n")[0]
        claim.release()
        raise PreflightError(
            f"Another start (process {holder}) uses the data folder {folder}. "
            "Stop that one first, or set SLM_DATA_DIR to another folder."
        )
    os.truncate(claim.own, 0)
    os.pwrite(claim.own, str(os.getpid()).encode(), 0)
    return claim


def announced_redis(folder: Path) -> str | None:
    """Where the Redis is of the server that runs on the data folder; None where none does.

    Raises:
        PreflightError: a server is about to start there, or another program uses the folder.
    """
    try:
        lock = os.open(folder / "start.lock", os.O_RDWR)
    except OSError:
        return None
    try:
        if _lock(lock, 0):
            return None
        _, _, url = os.pread(lock, 256, 0).decode().partition("\n")
    finally:
        os.close(lock)
    if not url:
        raise PreflightError(f"Another program is about to use the data folder {folder}; try again in a moment.")
    return url.strip()


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o644)


def _lock(handle: int, patience_s: float) -> bool:
    """Whether the lock could be had within `patience_s` seconds."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.1)
        else:
            return True


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


def check_access(settings: Settings, redis: Redis) -> None:
    """Raise unless who may use the server is settled: by API keys, by where it listens, or by the operator's word."""
    from common.binding import InsecureBinding, check_binding

    try:
        check_binding(settings, redis)
    except InsecureBinding as err:
        raise PreflightError(str(err)) from err
