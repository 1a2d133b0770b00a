"""Runs the API as a separate process, as in production: gunicorn with gevent, on a loopback port."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests

from tests.free_port import free_port
from tests.processes import end

ROOT = Path(__file__).resolve().parent.parent
COMMAND = (sys.executable, "-m", "gunicorn", "--config", "api/gunicorn_conf.py", "api.wsgi:create_app()")
START_S = 120.0  # on a busy machine


@dataclass
class ApiProcess:
    """A started API."""

    url: str
    process: subprocess.Popen[bytes]
    log: Path

    def stop(self) -> int:
        """Send SIGTERM, and return the exit status."""
        self.process.terminate()
        return self.process.wait(START_S)


def environment(**settings: object) -> dict[str, str]:
    """Return this process's environment with the given SLM_* settings."""
    return os.environ | {f"SLM_{name}".upper(): str(value) for name, value in settings.items()}


@contextmanager
def running_api(folder: Path, *, port: int = 0, **settings: object) -> Iterator[ApiProcess]:
    """Start the API with these settings, on a free port by default; it is killed at the end if it still runs."""
    port, log = port or free_port(), folder / "api.log"
    with log.open("ab") as out:
        process = subprocess.Popen(
            COMMAND,
            cwd=ROOT,
            env=environment(port=port, **settings),
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        api = ApiProcess(f"http://127.0.0.1:{port}", process, log)
        _wait_until_up(api)
        yield api
    finally:
        end(process)


def _wait_until_up(api: ApiProcess) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            requests.get(f"{api.url}/healthz", timeout=5).raise_for_status()
            return
        except (requests.ConnectionError, requests.Timeout):
            assert api.process.poll() is None, api.log.read_text("utf-8")
            assert time.monotonic() < deadline, api.log.read_text("utf-8")
            time.sleep(0.05)
