"""The Redis that holds this server's data, for programs beside the server: also while the server does not run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from common.redis_client import connect
from common.settings import Settings
from deploy import preflight
from deploy.preflight import PreflightError
from deploy.redis_server import EmbeddedRedis, find_server, free_port
from deploy.supervisor import LAUNCHER

_START_S = 30.0  # a long log takes its time to be read
_STOP_S = 15.0  # to write its log out


@contextmanager
def reach(settings: Settings) -> Iterator[Redis]:
    """A client of it: of the one that SLM_REDIS_URL names, of the running server's own, or of one started for this.

    Raises:
        PreflightError: it cannot be reached or started; the text says why.
    """
    url = settings.redis_url if os.environ.get("SLM_REDIS_URL") else preflight.announced_redis(settings.data_dir)
    if url is not None:
        preflight.check_redis(url)
        with connect(url) as client:
            yield client
        return
    claim = preflight.claim_data_dir(settings.data_dir, leftovers_s=0)
    try:
        with running(embedded(settings), claim.inherited) as client:
            yield client
    finally:
        claim.release()


def embedded(settings: Settings) -> EmbeddedRedis:
    """The server that keeps its data in the data folder, not started yet."""
    folder = settings.data_dir / "redis"
    folder.mkdir(exist_ok=True)
    return EmbeddedRedis(find_server(), folder, free_port(), settings.redis_fsync, settings.redis_memory)


@contextmanager
def running(server: EmbeddedRedis, lock: int) -> Iterator[Redis]:
    """The server, started, and stopped in order at the end. It holds the data folder's lock for as long as it lives.

    Raises:
        PreflightError: it does not answer in time.
    """
    orphan = [str(os.getpid()), str(signal.SIGTERM.value)]
    command = [sys.executable, "-I", "-S", str(LAUNCHER), *orphan, *server.command()]
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
        except RedisError:
            time.sleep(0.05)
        else:
            return
    raise PreflightError(f"The Redis server of the data folder does not start; {log} says why.")
