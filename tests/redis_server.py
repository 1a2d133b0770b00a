"""Runs a real Redis-compatible server for a test, on a free loopback port."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from deploy.redis.redis_server import durability, find_server
from tests.free_port import free_port

START_S = 90.0  # on a busy machine


class RedisServer:
    """A server that can be killed and restarted; its data stay in `folder`. `login` is USER:PASSWORD, if required."""

    def __init__(self, folder: Path, login: str = "", options: Sequence[str] = ()) -> None:
        self.folder = folder
        self.port = free_port()
        self._login = login
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The URL that clients connect to."""
        login = f"{self._login}@" if self._login else ""
        return f"redis://{login}127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """The process id of the started server."""
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start and wait until it answers."""
        where = ("--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder))
        command = (str(find_server()), *self._options, *where, *durability("everysec", "512mb"))
        with (self.folder / "server.log").open("ab") as out:
            self._process = subprocess.Popen(command, stdout=out, stderr=out)
        deadline = time.monotonic() + START_S
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
        """Send SIGKILL, as in a crash."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def lose_data(self) -> None:
        """Delete all data; the server must not be running."""
        shutil.rmtree(self.folder / "appendonlydir")

    def pause(self) -> None:
        """Freeze it: it accepts connections but answers nothing."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Continue after `pause`."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)


@contextmanager
def running_server(folder: Path, login: str = "", options: Sequence[str] = ()) -> Iterator[RedisServer]:
    """Start a server, and kill it at the end."""
    server = RedisServer(folder, login, options)
    try:
        server.start()
        yield server
    finally:
        server.kill()
