"""Stores API keys in Redis: their owners, roles and limits. Only a hash of each key is kept, never the key itself."""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any, cast

from redis import Redis
from redis.client import Pipeline

from common.redis import keys
from common.wire import known_fields

PREFIX = "slm_"  # lets people and secret scanners recognise a key
ANONYMOUS = "anonymous"  # the owner of requests without a key
MIB = 1024 * 1024
_SECRET_BYTES = 32
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Role(StrEnum):
    """The permissions of a key."""

    USER = "user"  # generate, and read and cancel their own jobs
    WORKER = "worker"  # a worker of another host: read and add the files of adapters, and nothing else
    TRAINER = "trainer"  # the same, and train adapters and publish them
    ADMIN = "admin"  # everything


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one owner; None means no limit.

    `requests_per_minute` counts requests that create work; `reads_per_minute` counts all others. `concurrent_jobs`
    counts jobs that wait or run. `tokens_per_day` counts prompt and answer tokens from midnight to midnight UTC: the
    most a job may need is reserved when it is submitted, and its actual use is charged when it ends. Each API process
    counts reads and `open_streams` separately. `job_bytes` limits the size of the job texts in Redis: the oldest ended
    jobs expire early to make room. `files` and `file_bytes` limit uploads; `open_batches` counts batches that have not
    ended. `feedback_bytes` limits the feedback on jobs, with their prompts and answers.
    """

    requests_per_minute: int | None = None
    reads_per_minute: int | None = None
    concurrent_jobs: int | None = None
    open_streams: int | None = None
    tokens_per_day: int | None = None
    job_bytes: int | None = None
    files: int | None = None
    file_bytes: int | None = None
    open_batches: int | None = None
    feedback_bytes: int | None = None


UNLIMITED = Limits()
# The limits of a new key, unless the operator sets others.
DEFAULT_LIMITS = Limits(
    reads_per_minute=6000,
    open_streams=256,
    job_bytes=256 * MIB,
    files=1000,
    file_bytes=256 * MIB,
    open_batches=100,
    feedback_bytes=64 * MIB,
)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A stored key. `name` is the owner of its jobs; `created_ms` is since the epoch on Redis's clock."""

    name: str
    role: Role
    digest: str
    created_ms: int
    limits: Limits = field(default=DEFAULT_LIMITS)

    def to_json(self) -> str:
        """Return the JSON stored in Redis; `from_json` reads it back."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ApiKey:
        """Parse the JSON stored in Redis."""
        wire = json.loads(text)
        limits = replace(DEFAULT_LIMITS, **known_fields(Limits, wire["limits"]))  # a key may be older than some limits
        return cls(**known_fields(cls, wire) | {"role": Role(wire["role"]), "limits": limits})


class ApiKeyError(Exception):
    """A key cannot be created or changed; the text says why."""


class UnknownApiKey(ApiKeyError):
    """No key has that name."""


class NoAdminLeft(ApiKeyError):
    """After the change, no key would be an admin's, so that only the command line could manage keys."""


class ApiKeyStore:
    """Creates, lists, changes and revokes keys. Every method may raise `redis.exceptions.RedisError`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def create(self, name: str, role: Role, limits: Limits = DEFAULT_LIMITS, *, keeps_admin: bool = False) -> str:
        """Create a key and return its secret, which cannot be read again.

        Args:
            name: the owner of its jobs.
            role: what it permits.
            limits: its limits.
            keeps_admin: whether the first key must be an admin's.

        Raises:
            ApiKeyError: the name is invalid or already in use.
            NoAdminLeft: only if `keeps_admin`.
        """
        if not _NAME.fullmatch(name) or name == ANONYMOUS:
            raise ApiKeyError(
                f"{name!r} cannot be the name of a key: 1 to 64 letters, digits, '.', '_' and '-', beginning with a "
                f"letter or digit, and not {ANONYMOUS!r}"
            )
        if keeps_admin:
            _check_admins(role, *(key.role for key in self.all()))
        secret = PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
        key = ApiKey(name, role, digest(secret), self._now_ms(), limits)
        if not self._redis.hsetnx(keys.API_KEYS, name, key.to_json()):
            raise ApiKeyError(f"there is a key named {name!r} already: revoke it first, or change it")
        return secret

    def all(self) -> list[ApiKey]:
        """Return all keys, sorted by name."""
        found = cast(dict[str, str], self._redis.hgetall(keys.API_KEYS))
        return [ApiKey.from_json(text) for _, text in sorted(found.items())]

    def find(self, name: str) -> ApiKey:
        """Return a key.

        Raises:
            UnknownApiKey: no key has that name.
        """
        found = cast(str | None, self._redis.hget(keys.API_KEYS, name))
        if found is None:
            raise _unknown(name)
        return ApiKey.from_json(found)

    def change(self, name: str, changes: Mapping[str, Any], *, keeps_admin: bool = False) -> ApiKey:
        """Change the `role` or some limits of a key, and return the changed key.

        Raises:
            UnknownApiKey: no key has that name.
            NoAdminLeft: only if `keeps_admin`.
        """
        role, limits = changes.get("role"), {what: value for what, value in changes.items() if what != "role"}

        def change(key: ApiKey) -> ApiKey:
            return replace(key, role=role or key.role, limits=replace(key.limits, **limits))

        return cast(ApiKey, self._update(name, change, keeps_admin=keeps_admin))

    def revoke(self, name: str, *, keeps_admin: bool = False) -> None:
        """Revoke a key. Its owner can submit no more jobs; existing jobs are not cancelled here.

        Raises:
            UnknownApiKey: no key has that name.
            NoAdminLeft: only if `keeps_admin`.
        """
        self._update(name, lambda _: None, keeps_admin=keeps_admin)

    def _update(self, name: str, change: Callable[[ApiKey], ApiKey | None], *, keeps_admin: bool) -> ApiKey | None:
        """Rewrite or remove a key; retry if the keys changed meanwhile, so that a revoked key does not come back."""

        def attempt(pipe: Pipeline) -> ApiKey | None:
            found = cast(dict[str, str], pipe.hgetall(keys.API_KEYS))
            if name not in found:
                raise _unknown(name)
            all_keys = {owner: ApiKey.from_json(text) for owner, text in found.items()}
            changed = change(all_keys.pop(name))
            if keeps_admin:
                _check_admins(*(key.role for key in (*all_keys.values(), changed) if key is not None))
            pipe.multi()
            if changed is None:
                pipe.hdel(keys.API_KEYS, name)
            else:
                pipe.hset(keys.API_KEYS, name, changed.to_json())
            return changed

        # redis-py's type hints ignore value_from_callable.
        return cast(ApiKey | None, self._redis.transaction(attempt, keys.API_KEYS, value_from_callable=True))  # type: ignore[arg-type]

    def _now_ms(self) -> int:
        seconds, micros = self._redis.time()
        return int(seconds) * 1000 + int(micros) // 1000


def digest(secret: str) -> str:
    """Return the SHA-256 of a key in hex, which is stored instead of the key.

    A salt or a slow hash would protect a *password* from guessing. A key is 256 random bits, which cannot be guessed,
    and every request computes this hash to look up its key.
    """
    return hashlib.sha256(secret.encode()).hexdigest()


def _check_admins(*roles: Role) -> None:
    if Role.ADMIN not in roles:
        raise NoAdminLeft(
            "no key would be an admin's any more, and only the command line on the server's machine could manage keys"
        )


def _unknown(name: str) -> UnknownApiKey:
    return UnknownApiKey(f"there is no key named {name!r}")
