"""Claims the server's data folder for one start at a time and keeps it private from this machine's other users."""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from common.redis.address import RedisAddress
from common.settings import ROOT
from deploy import leftovers
from deploy.redis.redis_server import SOCKET
from deploy.setup.preflight import PreflightError

LEFTOVERS_S = 5.0  # time for the processes of a killed start to end by themselves: Redis flushes its log
KILLED_S = 10.0  # time for them to end after they were killed

# Files for passwords, which must not be on a command line: every user of a machine can read command lines.
BROKER_URL, REDIS_CONFIG = "broker.url", "redis.conf"
REDIS_USER = "slm"
_ACCESS = "".join(f"user {name} on >PASSWORD ~* &* +@all\n" for name in ("default", REDIS_USER))
_OWN_LOCK, _PROCESSES_LOCK = "start.lock", "processes.lock"
_PRIVATE = ("redis", "logs")
_INSTALLATION = "installation"
_NAMES = {
    *_PRIVATE,
    "models",
    "native",
    SOCKET,
    BROKER_URL,
    REDIS_CONFIG,
    _INSTALLATION,
    _OWN_LOCK,
    _PROCESSES_LOCK,
}


@dataclass(frozen=True, slots=True)
class DataDirClaim:
    """Two locks on a data folder, as file descriptors: one for this process, one that its children inherit.

    The inherited lock is held until the last child has ended, even if this process was killed: two Redis servers in
    one folder would destroy its data.
    """

    folder: Path
    own: int
    inherited: int

    def announce(self, redis_url: str, broker_url: str | None = None) -> None:
        """Publish the addresses of the server's Redis, for our programs (`announced_redis`), and of Celery's broker.

        Without a `broker_url`, Redis is the broker. Celery's tools find it in the file `BROKER_URL`.
        """
        os.pwrite(self.own, f"{os.getpid()}\n{redis_url}\n".encode(), 0)
        _write_private(self.folder / BROKER_URL, broker_url or RedisAddress.parse(redis_url).broker_url)

    def release(self) -> None:
        """Release this process's locks on the folder; children keep theirs."""
        os.close(self.own)
        os.close(self.inherited)


def claim_data_dir(folder: Path) -> DataDirClaim:
    """Create the folder, make it private and claim it. Processes left by a killed start are ended.

    Raises:
        PreflightError: the folder is not writable, or another server uses it.
    """
    try:
        _make_private(folder)
        own = _open(folder / _OWN_LOCK)
    except OSError as err:
        raise PreflightError(
            f"Cannot write to the data folder {folder} ({err.strerror}). Set SLM_DATA_DIR to a writable folder."
        ) from err
    try:
        _take(own, folder)
        return DataDirClaim(folder, own, _end_leftovers(folder))
    except PreflightError:
        os.close(own)
        raise


def _take(own: int, folder: Path) -> None:
    if not _lock(own):
        holder = os.pread(own, 32, 0).decode().partition("\n")[0]
        raise PreflightError(
            f"Another start (process {holder}) uses the data folder {folder}. "
            "Stop that one first, or set SLM_DATA_DIR to another folder."
        )
    os.truncate(own, 0)
    os.pwrite(own, str(os.getpid()).encode(), 0)


def _end_leftovers(folder: Path) -> int:
    """Lock the processes' lock file after the last process of an earlier start has ended or was killed.

    No other start can interfere, because this process holds the other lock.
    """
    inherited = _open(folder / _PROCESSES_LOCK)
    if _lock(inherited, LEFTOVERS_S):
        return inherited
    leftovers.kill(folder / _PROCESSES_LOCK)
    if _lock(inherited, KILLED_S):
        return inherited
    os.close(inherited)
    raise PreflightError(
        f"Processes of an earlier start still use the data folder {folder}, and this start cannot end them. "
        "End them, or set SLM_DATA_DIR to another folder."
    )


def announced_redis(folder: Path) -> str | None:
    """Return the Redis URL of the server that uses the data folder; None if no server does.

    Raises:
        PreflightError: a server is about to start there, or another program uses the folder.
    """
    try:
        lock = os.open(folder / _OWN_LOCK, os.O_RDWR)
    except OSError:
        return None
    try:
        if _lock(lock):
            return None
        _, _, url = os.pread(lock, 4096, 0).decode().partition("\n")
    finally:
        os.close(lock)
    if not url:
        raise PreflightError(f"Another program is about to use the data folder {folder}; try again in a moment.")
    return url.strip()


def installation(folder: Path) -> str:
    """Return the id that distinguishes this installation's workers on a shared Redis. The folder must be claimed."""
    return _generated_once(folder / _INSTALLATION, re.compile("([0-9a-f]{6})"), lambda: secrets.token_hex(3))


def redis_password(folder: Path) -> str:
    """Return the password of the folder's own Redis, stored in its `REDIS_CONFIG`. The folder must be claimed.

    Our clients connect as a named user: a Redis without passwords accepts any password for its default user. The
    default user exists for tools that cannot name one, such as Flower when it counts the queue.
    """
    lines = re.escape(_ACCESS).replace("PASSWORD", "([0-9a-f]{64})", 1).replace("PASSWORD", r"\1")
    draw = partial(_ACCESS.replace, "PASSWORD", secrets.token_hex(32))
    return _generated_once(folder / REDIS_CONFIG, re.compile(lines), draw)


def _generated_once(file: Path, pattern: re.Pattern[str], draw: Callable[[], str]) -> str:
    """Return the group of `pattern` in the file; a missing or damaged file is rewritten from `draw`."""
    found = pattern.fullmatch(file.read_text("ascii", errors="replace")) if file.exists() else None
    if found is not None:
        return found[1]
    _write_private(file, draw())
    return _generated_once(file, pattern, draw)


def _write_private(file: Path, text: str) -> None:
    file.touch(mode=0o600)
    file.write_text(text, "utf-8")


def _make_private(folder: Path) -> None:
    """Make the folder private: it holds prompts and responses. If others use it too, only our parts are changed."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if _is_ours(folder):
        folder.chmod(0o700)
    for name in _PRIVATE:
        (folder / name).mkdir(exist_ok=True)
        (folder / name).chmod(0o700)


def _is_ours(folder: Path) -> bool:
    """Whether it is in the project or holds only our files: somebody may have chosen /srv or their home."""
    return ROOT in folder.absolute().parents or all(
        entry.name in _NAMES or entry.name.startswith(".") for entry in folder.iterdir()
    )


def _open(path: Path) -> int:
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    os.fchmod(handle, 0o600)  # an older version made it readable for everybody
    return handle


def _lock(handle: int, patience_s: float = 0.0) -> bool:
    """Take the lock; returns False if it is still held by another process after `patience_s` seconds."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.1)
        else:
            return True
