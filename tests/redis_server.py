"""A real Redis-compatible server of the test's own, on a free loopback port."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from deploy.redis_server import EmbeddedRedis, find_server, free_port


class RedisServer:
    """Starts, kills and starts again; the data stay in `folder`."""

    def __init__(self, folder: Path) -> None:
        self._server = EmbeddedRedis(find_server(), folder, free_port(0), fsync="everysec")
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """What clients connect to."""
        return self._server.url

    def start(self) -> None:
        """Start and wait until it answers."""
        with (self._server.folder / "server.log").open("ab") as out:
            self._process = subprocess.Popen(self._server.command(), stdout=out, stderr=out)
        deadline = time.monotonic() + 20
        with Redis.from_url(self.url) as client:
            while True:
                try:
                    client.ping()
                    return
                except RedisConnectionError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.02)

    def kill(self) -> None:
        """SIGKILL, as in a crash."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def lose_data(self) -> None:
        """Forget everything; must not run."""
        shutil.rmtree(self._server.folder / "appendonlydir")

    def pause(self) -> None:
        """Let it stand still: it takes connections and answers nothing."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)


@contextmanager
def running_server(folder: Path) -> Iterator[RedisServer]:
    """A started server, killed at the end."""
    server = RedisServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()
