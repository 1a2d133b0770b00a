"""Connects programs such as `slm keys` to the Redis with this server's data, even if the server is not running."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis
from redis.exceptions import AuthenticationError, RedisError

from common.redis.client import connect
from common.settings import Settings
from deploy.data_folder import REDIS_CONFIG, REDIS_USER, announced_redis, claim_data_dir, redis_password
from deploy.launch import tied
from deploy.redis.redis_server import EmbeddedRedis, find_server, socket_path
from deploy.setup import preflight
from deploy.setup.preflight import PreflightError

_START_S = 30.0  # a long log takes time to read
_STOP_S = 15.0  # time to flush its log


@contextmanager
def reach(settings: Settings) -> Iterator[Redis]:
    """Yield a client of the Redis that SLM_REDIS_URL names, else of the running server's, else of one started for this.

    Raises:
        PreflightError: it is not reachable or cannot be started; the text says why.
    """
    if settings.redis_url is not None:
        preflight.check_redis(settings.redis_url)
    url = settings.redis_url or announced_redis(settings.data_dir)
    if url is not None:
        with connect(url) as client:
            yield client
        return
    claim = claim_data_dir(settings.data_dir)
    try:
        with running(embedded(settings), claim.inherited) as client:
            yield client
    finally:
        claim.release()


def embedded(settings: Settings) -> EmbeddedRedis:
    """Return the Redis server of the data folder, not started yet. The folder must be claimed.

    Raises:
        PreflightError: no Redis program is installed, or its socket cannot be created anywhere.
    """
    folder = settings.data_dir.absolute()
    return EmbeddedRedis(
        program=find_server(),
        folder=folder / "redis",
        socket=socket_path(folder),
        config=folder / REDIS_CONFIG,
        user=REDIS_USER,
        password=redis_password(folder),
        fsync=settings.redis_fsync,
        memory=settings.redis_memory,
    )


@contextmanager
def running(server: EmbeddedRedis, lock: int) -> Iterator[Redis]:
    """Start the server, yield a client of it, and stop it cleanly at the end. While it runs it holds the folder's lock.

    Raises:
        PreflightError: it does not answer in time.
    """
    command = tied(server.command(), signal.SIGTERM)
    log = Path(server.folder) / "own.log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, pass_fds=(lock,))
    try:
        with connect(server.url, retries=0) as client:
            _wait_for(client, process, log)
            yield client
    finally:
        process.terminate()
        process.wait(_STOP_S)


def _wait_for(client: Redis, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            client.ping()
        except AuthenticationError as err:
            raise PreflightError(f"Another server answers instead of this data folder's Redis ({err}).") from err
        except RedisError:
            time.sleep(0.05)
        else:
            return
    raise PreflightError(f"The Redis server of the data folder does not start; {log} says why.")
