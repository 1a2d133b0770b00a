"""Creates, lists, changes and revokes API keys: `python -m deploy.keys create --name bob --role user`.

Works whether or not the server is running. Standard library only, until the environment exists.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from common.environment import ours
from deploy import bootstrap
from deploy.setup import settings_check

if TYPE_CHECKING:
    from redis import Redis

    from common.owners.api_keys import ApiKey, Limits

_LIMITS = {
    "requests_per_minute": "requests per minute that create work (POST)",
    "reads_per_minute": "requests per minute that only read",
    "concurrent_jobs": "jobs waiting or running at the same time",
    "open_streams": "streams open at the same time",
    "tokens_per_day": "tokens of prompts and answers per day (UTC)",
    "job_bytes": "bytes of prompts and answers kept; beyond that the oldest ended jobs are deleted",
    "files": "files kept",
    "file_bytes": "bytes of files kept",
    "open_batches": "batches that have not ended yet",
}
_NO_LIMIT = "none"
_NEEDED = ("redis", "pydantic_settings")


def main(argv: Sequence[str]) -> int:
    """Run the command. Returns the exit status."""
    asked = _parser().parse_args(argv)
    try:
        return _run(asked, argv)
    except bootstrap.SetupError as err:
        print(f"Cannot set up: {err}", file=sys.stderr)
        return 1


def _run(asked: argparse.Namespace, argv: Sequence[str]) -> int:
    if any(importlib.util.find_spec(name) is None for name in _NEEDED):  # a container image has them, but no .venv
        settings_check.check_settings(os.environ)
        python = bootstrap.ensure([bootstrap.SERVE])
        os.execve(python, [str(python), "-m", "deploy.keys", *argv], ours(os.environ))  # noqa: S606 - no shell is wanted
    from redis.exceptions import RedisError

    from common.owners.api_keys import ApiKeyError
    from common.settings import Settings, SettingsError
    from deploy.redis import own_redis
    from deploy.setup.preflight import PreflightError

    os.umask(0o077)  # this may start the server's Redis
    try:
        with own_redis.reach(Settings.from_env()) as redis:
            print(asked.act(redis, asked))
    except (SettingsError, PreflightError, ApiKeyError, RedisError) as err:
        print(f"Cannot {asked.what}: {err}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m deploy.keys", description="Manage the server's API keys.")
    commands = parser.add_subparsers(dest="what", required=True)
    create = commands.add_parser("create", help="create a key and show it once")
    create.add_argument("--name", required=True, help="name of the key; it owns the jobs sent with it")
    create.add_argument(
        "--role", choices=("user", "admin"), default="user", help="permissions of the key (default: user)"
    )
    create.set_defaults(act=_create)
    change = commands.add_parser("change", help="change the role or limits of a key")
    change.add_argument("--name", required=True)
    change.add_argument("--role", choices=("user", "admin"))
    change.set_defaults(act=_change)
    for command in (create, change):
        for name, counted in _LIMITS.items():
            option = f"--{name.replace('_', '-')}"
            help_text = f"maximum {counted}, or {_NO_LIMIT}"
            command.add_argument(option, type=_limit, default=argparse.SUPPRESS, metavar="N", help=help_text)
    revoke = commands.add_parser("revoke", help="reject a key within two seconds; end its jobs and streams")
    revoke.add_argument("--name", required=True)
    revoke.set_defaults(act=_revoke)
    commands.add_parser("list", help="list the names, roles and limits of all keys").set_defaults(act=_list)
    return parser


def _limit(text: str) -> int | None:
    if text == _NO_LIMIT:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a whole number of at least 1 nor {_NO_LIMIT!r}")
    return int(text)


def _limits_of(asked: argparse.Namespace) -> dict[str, Any]:
    return {name: value for name, value in vars(asked).items() if name in _LIMITS}


def _create(redis: Redis, asked: argparse.Namespace) -> str:
    from common.owners.api_keys import DEFAULT_LIMITS, ApiKeyStore, Role

    limits = replace(DEFAULT_LIMITS, **_limits_of(asked))
    secret = ApiKeyStore(redis).create(asked.name, Role(asked.role), limits)
    return f"The key of {asked.name}; it will not be shown again:\n{secret}"


def _change(redis: Redis, asked: argparse.Namespace) -> str:
    from common.owners.api_keys import ApiKeyStore, Role

    role = {} if asked.role is None else {"role": Role(asked.role)}
    return _line(ApiKeyStore(redis).change(asked.name, _limits_of(asked) | role))


def _revoke(redis: Redis, asked: argparse.Namespace) -> str:
    """Revoke the key first, so that nothing new is accepted, then end its work. Resumes an interrupted revocation."""
    from common.jobs.store import JobStore
    from common.owners.api_keys import ApiKeyError, ApiKeyStore
    from common.owners.batches import BatchStore
    from common.settings import Settings

    settings = Settings.from_env()
    unknown: ApiKeyError | None = None
    try:
        ApiKeyStore(redis).revoke(asked.name)
    except ApiKeyError as err:
        unknown = err
    batches = BatchStore(redis, ttl_s=settings.file_ttl_s).cancel_all(asked.name)
    jobs = JobStore(redis, _leave_to_the_workers, job_ttl_s=settings.job_ttl_s).cancel_all(asked.name)
    if unknown is not None and not (batches or jobs):
        raise unknown
    return f"The key of {asked.name} is rejected within two seconds. Cancelled: {jobs} jobs, {batches} batches."


def _leave_to_the_workers(_wake_ups: object) -> None:
    """Dispatch nothing: the workers' reapers find the jobs that move up in the queue within seconds."""


def _list(redis: Redis, _asked: argparse.Namespace) -> str:
    from common.owners.api_keys import ApiKeyStore

    return "\n".join(map(_line, ApiKeyStore(redis).all())) or "There are no keys."


def _line(key: ApiKey) -> str:
    return f"{key.name:<20} {key.role.value:<6} {_limits_text(key.limits)}"


def _limits_text(limits: Limits) -> str:
    """Return the limits that differ from the default ones, as text."""
    from common.owners.api_keys import DEFAULT_LIMITS

    values = {name: getattr(limits, name) for name in _LIMITS if getattr(limits, name) != getattr(DEFAULT_LIMITS, name)}
    named = [f"{'any' if value is None else value} {name.replace('_', ' ')}" for name, value in values.items()]
    return ", ".join(named) or "default limits"


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
