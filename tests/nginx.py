"""Runs a real nginx with the files of deploy/nginx, changed only in ports, folders and the API's address."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from common.settings import ROOT
from tests.free_port import free_port
from tests.missing import need_program
from tests.processes import wait_for

SOURCE = ROOT / "deploy" / "nginx"


@dataclass(frozen=True, slots=True)
class Nginx:
    """The ports of the running server, and its process's log."""

    http: int
    https: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http}"


@contextmanager
def running_nginx(
    folder: Path, api: str, *, config: str = "nginx.conf", changes: Mapping[str, str] | None = None
) -> Iterator[Nginx]:
    """Start nginx in front of `api` (HOST:PORT); `changes` are replaced in its files, too."""
    need_program("nginx")
    server = Nginx(free_port(), free_port(), folder / "nginx.log")
    _write(folder / "conf", _own(folder, api, server) | (changes or {}))
    command = ["nginx", "-c", str(folder / "conf" / config), "-e", str(folder / "start.log"), "-g", "daemon off;"]
    with server.log.open("ab") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        wait_for("nginx", lambda: process.poll() is not None or _listens(server.http))
        assert process.poll() is None, server.log.read_text()
        yield server
    finally:
        process.terminate()
        process.wait()


def _own(folder: Path, api: str, server: Nginx) -> dict[str, str]:
    return {
        "worker_processes auto": "worker_processes 2",
        "worker_rlimit_nofile 32768;": "",  # the test's user may not have so many
        "worker_connections 16384": "worker_connections 512",
        "http://api:5000": f"http://{api}",
        "8080;": f"127.0.0.1:{server.http};",
        "127.0.0.1:8081": f"127.0.0.1:{free_port()}",
        "8443 ssl": f"127.0.0.1:{server.https} ssl",
        "/tmp/": f"{folder}/",
        "/etc/tls/": f"{folder}/",
        "https://$host$": f"https://$host:{server.https}$",
    }


def _write(folder: Path, changes: Mapping[str, str]) -> None:
    shutil.copytree(SOURCE, folder)
    for file in folder.iterdir():
        text = file.read_text()
        for old, new in changes.items():
            text = text.replace(old, new)
        file.write_text(text)


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False
