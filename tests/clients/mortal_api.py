"""An API process that can be killed and started again at the same address."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.api_process import COMMAND, ROOT, environment
from tests.free_port import free_port
from tests.processes import is_up, wait_for

START_S = 120.0  # on a busy machine


class MortalApi:
    """Starts, dies as in a crash, and restarts at the same address."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._env = environment(port=self.port, **settings)
        self._log = folder / "api.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start without waiting until it answers."""
        with self._log.open("ab") as out:
            self._process = subprocess.Popen(
                COMMAND, cwd=ROOT, env=self._env, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
            )

    def wait_until_up(self) -> None:
        wait_for("the API", lambda: is_up(self.url), START_S)

    def kill(self) -> None:
        """Send SIGKILL to the master and its worker: every connection breaks off."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Die, and restart without waiting."""
        self.kill()
        self.start()

    def restart_when(self, moment: threading.Event) -> threading.Thread:
        """Restart at that moment, on another thread."""

        def watch() -> None:
            assert moment.wait(START_S)
            self.restart()

        thread = threading.Thread(target=watch)
        thread.start()
        return thread


@contextmanager
def mortal_api(folder: Path, **settings: object) -> Iterator[MortalApi]:
    """Start it, and kill it at the end."""
    api = MortalApi(folder, **settings)
    api.start()
    try:
        api.wait_until_up()
        yield api
    finally:
        api.kill()
