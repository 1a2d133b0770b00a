"""Creates, lists, changes and revokes API keys, directly in Redis: whether or not the server is running."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime
from enum import StrEnum
from inspect import Parameter
from typing import TYPE_CHECKING, Annotated, Any

import typer

from slm.failures import CommandError, shown
from slm.options import Json, declare, parameters_of
from slm.output import Output

if TYPE_CHECKING:
    from redis import Redis

    from common.owners.api_keys import ApiKey, Limits
    from common.owners.revocation import Revoked

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
    "feedback_bytes": "bytes of feedback kept, with the prompts and answers that it is about",
}
_NO_LIMIT = "none"

keys = typer.Typer(help="Manage the API keys. Works on the server's machine, whether or not the server is running.")


class RoleName(StrEnum):
    """The roles, known without loading Redis's client."""

    USER = "user"
    WORKER = "worker"
    TRAINER = "trainer"
    ADMIN = "admin"


KeyName = Annotated[str, typer.Option("--name", help="Name of the key; it owns the jobs sent with it.")]


def _create(
    *, name: KeyName, role: RoleName = RoleName.USER, as_json: Json = False, **limits: int | str | None
) -> None:
    """Create a key and show it once."""
    with _redis("create the key", as_json) as (redis, output):
        from common.owners.api_keys import DEFAULT_LIMITS, ApiKeyStore, Role

        given = _given(limits)
        secret = ApiKeyStore(redis).create(name, Role(role), replace(DEFAULT_LIMITS, **given))
        text = f"The key of {name}; it will not be shown again:\n{secret}"
        output.result({"name": name, "role": role, "key": secret}, text)
        _record(redis, output, "create_key", name, {"role": role.value} | given)


def _change(*, name: KeyName, role: RoleName | None = None, as_json: Json = False, **limits: int | str | None) -> None:
    """Change the role or limits of a key."""
    with _redis("change the key", as_json) as (redis, output):
        from common.owners.api_keys import ApiKeyStore, Role

        changes = _given(limits) | ({} if role is None else {"role": Role(role)})
        changed = ApiKeyStore(redis).change(name, changes)
        _record(redis, output, "change_key", name, changes)
        output.result(_fields(changed), _line(changed))


@keys.command("list")
def list_keys(*, as_json: Json = False) -> None:
    """List the names, roles and limits of all keys."""
    with _redis("list the keys", as_json) as (redis, output):
        from common.owners.api_keys import ApiKeyStore

        found = ApiKeyStore(redis).all()
        text = "\n".join(map(_line, found)) or "There are no keys."
        output.result({"keys": [_fields(key) for key in found]}, text)


@keys.command("revoke")
def revoke(*, name: KeyName, as_json: Json = False) -> None:
    """Reject a key within two seconds; end its jobs and streams."""
    with _redis("revoke the key", as_json) as (redis, output):
        done = _revoke(redis, name)
        _record(redis, output, "revoke_key", name)
        text = f"The key of {name} is rejected within two seconds. Cancelled: {done.jobs} jobs, {done.batches} batches."
        output.result({"name": name, "cancelled_jobs": done.jobs, "cancelled_batches": done.batches}, text)


def _limit(text: str) -> int | str:
    if text == _NO_LIMIT:
        return _NO_LIMIT
    if not text.isdecimal() or int(text) < 1:
        raise typer.BadParameter(f"{text!r} is neither a whole number of at least 1 nor {_NO_LIMIT!r}")
    return int(text)


def _limit_option(name: str) -> Parameter:
    option = typer.Option(
        f"--{name.replace('_', '-')}",
        parser=_limit,
        metavar="N",
        show_default=False,
        help=f"Maximum {_LIMITS[name]}, or {_NO_LIMIT}.",
    )
    return Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[str | None, option])


for _command, _name in ((_create, "create"), (_change, "change")):
    keys.command(_name)(declare(_command, [*parameters_of(_command), *map(_limit_option, _LIMITS)]))


def _given(limits: Mapping[str, int | str | None]) -> dict[str, Any]:
    """Return the limits that the command names; None in them means no limit."""
    return {name: None if value == _NO_LIMIT else value for name, value in limits.items() if value is not None}


@contextmanager
def _redis(what: str, as_json: bool) -> Iterator[tuple[Redis, Output]]:
    """Yield the server's Redis; an error of the block is shown, and ends the command."""
    from redis.exceptions import RedisError

    from common.owners.api_keys import ApiKeyError
    from common.settings import Settings, SettingsError
    from deploy.redis import own_redis
    from deploy.setup.preflight import PreflightError

    output = Output(as_json=as_json)
    os.umask(0o077)  # this may start the server's Redis
    with shown(output):
        try:
            with own_redis.reach(Settings.from_env()) as redis:
                yield redis, output
        except (SettingsError, PreflightError, ApiKeyError, RedisError) as err:
            raise CommandError(f"cannot {what}: {err}") from err


def _revoke(redis: Redis, name: str) -> Revoked:
    from common.jobs.store import JobStore
    from common.owners.api_keys import ApiKeyStore
    from common.owners.batches import BatchStore
    from common.owners.revocation import revoke as revoke_with_work
    from common.settings import Settings

    settings = Settings.from_env()
    batches = BatchStore(redis, ttl_s=settings.file_ttl_s)
    jobs = JobStore(redis, _leave_to_the_workers, job_ttl_s=settings.job_ttl_s)
    return revoke_with_work(name, ApiKeyStore(redis), batches, jobs)


def _record(redis: Redis, output: Output, action: str, name: str, changes: Mapping[str, object] | None = None) -> None:
    """Write to the audit log. If it cannot be written, e.g. because Redis is full, the change is made nevertheless."""
    from redis.exceptions import RedisError

    from common.owners.audit_log import COMMAND_LINE, AuditLog, Change, described

    try:
        AuditLog(redis).add(Change(COMMAND_LINE, action, name, described(changes or {})))
    except RedisError as err:
        output.note(f"The audit log has no entry of this: {err}")


def _leave_to_the_workers(_wake_ups: object) -> None:
    """Dispatch nothing: the workers' reapers find the jobs that move up in the queue within seconds."""


def _fields(key: ApiKey) -> dict[str, Any]:
    created = datetime.fromtimestamp(key.created_ms / 1000, UTC).isoformat(timespec="seconds")
    return {"name": key.name, "role": key.role, "created_at": created, "limits": asdict(key.limits)}


def _line(key: ApiKey) -> str:
    return f"{key.name:<20} {key.role.value:<7} {_limits_text(key.limits)}"


def _limits_text(limits: Limits) -> str:
    """Return the limits that differ from the default ones, as text."""
    from common.owners.api_keys import DEFAULT_LIMITS

    values = {name: getattr(limits, name) for name in _LIMITS if getattr(limits, name) != getattr(DEFAULT_LIMITS, name)}
    named = [f"{'any' if value is None else value} {name.replace('_', ' ')}" for name, value in values.items()]
    return ", ".join(named) or "default limits"
