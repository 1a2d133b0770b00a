"""The Redis that holds this server's data, for programs beside the server: also while the server does not run."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis
from redis.exceptions import AuthenticationError, RedisError

from common.redis_client import connect
from common.settings import Settings
from deploy import preflight
from deploy.data_folder import REDIS_CONFIG, REDIS_USER, announced_redis, claim_data_dir, redis_password
from deploy.launch import tied
from deploy.preflight import PreflightError
from deploy.redis_server import EmbeddedRedis, find_server, socket_path

_START_S = 30.0  # a long log takes its time to be read
_STOP_S = 15.0  # to write its log out


@contextmanager
def reach(settings: Settings) -> Iterator[Redis]:
    """A client of it: of the one that SLM_REDIS_URL names, of the running server's own, or of one started for this.

    Raises:
        PreflightError: it cannot be reached or started; the text says why.
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
    """The server that keeps its data in the data folder, which must be claimed; not started yet.

    Raises:
        PreflightError: there is no such program, or no place where it could listen.
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
    """The server, started, and stopped in order at the end. It holds the data folder's lock for as long as it lives.

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
