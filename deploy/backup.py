"""Saves the data folder of a server into an archive while it runs, and restores it into an empty folder.

    python -m deploy.backup save slm-2026-11-27.tar.gz
    SLM_DATA_DIR=/srv/slm python -m deploy.backup restore slm-2026-11-27.tar.gz

The archive has Redis's log (jobs, conversations, API keys as hashes, feedback, files) and the files of adapters,
datasets and training runs. It has no base models and no password. A Redis of your own (SLM_REDIS_URL) has its own
backups.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from redis import Redis

from common.settings import Settings, SettingsError
from deploy.redis import own_redis
from deploy.setup.preflight import PreflightError

LOG = Path("redis", "appendonlydir")
# What is drawn, downloaded, compiled or written anew.
LEFT_OUT = {"models", "native", "logs", "uploads", "installation", "redis", "redis.conf", "redis.sock", "broker.url"}
_LEFT_OUT_SUFFIX = ".lock"
_REWRITE_S = 600.0
_PERCENTAGE = "auto-aof-rewrite-percentage"


class BackupError(Exception):
    """Nothing was saved or restored; the text says why."""


def save(archive: Path, settings: Settings) -> None:
    """Write the archive. Redis's log comes first: what it names among the files is there when they are read.

    Raises:
        BackupError: Redis does not finish rewriting its log.
        PreflightError: the server's Redis is not reachable.
        OSError: a file cannot be read or written.
    """
    data = settings.data_dir.absolute()
    unfinished = archive.with_name(f"{archive.name}.unfinished")
    with tempfile.TemporaryDirectory(dir=archive.absolute().parent) as folder:
        if settings.redis_url is None:
            with own_redis.reach(settings) as redis, _no_rewrite(redis):
                shutil.copytree(data / LOG, Path(folder) / LOG)
        os.close(os.open(unfinished, os.O_CREAT | os.O_WRONLY, 0o600))  # it holds texts of users
        with tarfile.open(unfinished, "w:gz") as tar:
            if (Path(folder) / LOG).exists():
                tar.add(Path(folder) / LOG, str(LOG))
            for path in _files(data):
                tar.add(path, path.name)
    unfinished.replace(archive)


def _files(data: Path) -> list[Path]:
    return [path for path in sorted(data.iterdir()) if not _is_left_out(path.name)]


def _is_left_out(name: str) -> bool:
    """Whether a file or folder is no data. Hidden ones are caches, if the folder is the user's home."""
    return name in LEFT_OUT or name.startswith(".") or name.endswith(_LEFT_OUT_SUFFIX)


@contextmanager
def _no_rewrite(redis: Redis) -> Iterator[None]:
    """Keep Redis from replacing the files of its log in the block; it goes on writing at their end."""
    before = redis.config_get(_PERCENTAGE)[_PERCENTAGE] or "100"
    redis.config_set(_PERCENTAGE, 0)
    try:
        deadline = time.monotonic() + _REWRITE_S
        while redis.info("persistence")["aof_rewrite_in_progress"]:
            if time.monotonic() > deadline:
                raise BackupError("Redis has been rewriting its log for ten minutes; try again later.")
            time.sleep(0.2)
        yield
    finally:
        redis.config_set(_PERCENTAGE, before)


def restore(archive: Path, settings: Settings) -> None:
    """Unpack the archive into the data folder, which must have neither a log of Redis nor adapters.

    Raises:
        BackupError: the folder is in use.
        OSError: the archive cannot be read, or a file not be written.
    """
    data = settings.data_dir.absolute()
    there = [path.name for path in (data / "redis", data / "adapters") if path.exists() and any(path.iterdir())]
    if there:
        raise BackupError(
            f"{data} already has data ({', '.join(there)}). Restore into an empty folder, or move them away."
        )
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tarfile.open(archive) as tar:
        tar.extractall(data, filter="data")


def main(argv: Sequence[str] | None = None) -> int:
    """Save or restore. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m deploy.backup", description="Save or restore the data folder.")
    parser.add_argument("action", choices=["save", "restore"])
    parser.add_argument("archive", type=Path)
    args = parser.parse_args(argv)
    try:
        settings = Settings.from_env()
        (save if args.action == "save" else restore)(args.archive, settings)
    except (BackupError, PreflightError, SettingsError, OSError, tarfile.TarError) as err:
        print(err, file=sys.stderr)
        return 1
    if args.action == "save" and settings.redis_url is not None:
        print("Only files were saved: SLM_REDIS_URL names a Redis of your own, which has backups of its own.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
