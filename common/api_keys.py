"""The API keys in Redis: who holds one, in which role, within which limits. The keys themselves are not in it."""

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

from common import keys

PREFIX = "slm_"  # tells people, and programs that look for leaked secrets, what it is
ANONYMOUS = "anonymous"  # the owner of what is done without a key
MIB = 1024 * 1024
_SECRET_BYTES = 32
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class Role(StrEnum):
    """What the holder of a key may do."""

    USER = "user"  # generate, and see and cancel what they had generated
    ADMIN = "admin"  # everything


@dataclass(frozen=True, slots=True)
class Limits:
    """How much an owner may ask for; None is no limit.

    `requests_per_minute` counts requests that ask for work, `reads_per_minute` the others; `concurrent_jobs` counts
    jobs that wait or run; `tokens_per_day` those of prompts and answers, from midnight to midnight UTC: what a job may
    need is reserved when it is entered, and what it used counts when it has ended. Reads and `open_streams` are counted
    by each process of the API for itself. `job_bytes` bounds what the texts of jobs take in Redis: the oldest ended
    jobs expire early for it. `files` and `file_bytes` bound what is uploaded; `open_batches` counts batches that have
    not ended.
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


UNLIMITED = Limits()
# Of a key, unless its operator says otherwise.
DEFAULT_LIMITS = Limits(
    reads_per_minute=6000,
    open_streams=256,
    job_bytes=256 * MIB,
    files=1000,
    file_bytes=256 * MIB,
    open_batches=100,
)


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key as it is kept. `name` is the owner of its jobs; `created_ms` is since the epoch on Redis's clock."""

    name: str
    role: Role
    digest: str
    created_ms: int
    limits: Limits = field(default=DEFAULT_LIMITS)

    def to_json(self) -> str:
        """The form in Redis; `from_json` reads it back."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ApiKey:
        """Read the form in Redis."""
        wire = json.loads(text)
        limits = replace(DEFAULT_LIMITS, **wire["limits"])  # a key may be older than some of them
        return cls(**wire | {"role": Role(wire["role"]), "limits": limits})


class ApiKeyError(Exception):
    """A key cannot be made or changed so; the text says why."""


class ApiKeyStore:
    """Make, list, change and revoke keys. Every method may raise `redis.exceptions.RedisError`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def create(self, name: str, role: Role, limits: Limits = DEFAULT_LIMITS) -> str:
        """Make a key and return it: it can never be read again.

        Raises:
            ApiKeyError: the name cannot be used, or somebody has it.
        """
        if not _NAME.fullmatch(name) or name == ANONYMOUS:
            raise ApiKeyError(
                f"{name!r} cannot be the name of a key: 1 to 64 letters, digits, '.', '_' and '-', beginning with a "
                f"letter or digit, and not {ANONYMOUS!r}"
            )
        secret = PREFIX + secrets.token_urlsafe(_SECRET_BYTES)
        key = ApiKey(name, role, digest(secret), self._now_ms(), limits)
        if not self._redis.hsetnx(keys.API_KEYS, name, key.to_json()):
            raise ApiKeyError(f"there is a key named {name!r} already: revoke it first, or change it")
        return secret

    def all(self) -> list[ApiKey]:
        """The keys, by name."""
        found = cast(dict[str, str], self._redis.hgetall(keys.API_KEYS))
        return [ApiKey.from_json(text) for _, text in sorted(found.items())]

    def change(self, name: str, changes: Mapping[str, Any]) -> ApiKey:
        """Change the `role` or some of the limits of a key, and return it as it is now.

        Raises:
            ApiKeyError: there is no such key.
        """
        role, limits = changes.get("role"), {what: value for what, value in changes.items() if what != "role"}

        def change(key: ApiKey) -> ApiKey:
            return replace(key, role=role or key.role, limits=replace(key.limits, **limits))

        return self._update(name, change)

    def _update(self, name: str, change: Callable[[ApiKey], ApiKey]) -> ApiKey:
        """Rewrite a key, again if somebody else wrote to the keys meanwhile: a revoked one must not come back."""

        def attempt(pipe: Pipeline) -> ApiKey:
            found = cast(str | None, pipe.hget(keys.API_KEYS, name))
            if found is None:
                raise _unknown(name)
            changed = change(ApiKey.from_json(found))
            pipe.multi()
            pipe.hset(keys.API_KEYS, name, changed.to_json())
            return changed

        # redis-py's own hint forgets what value_from_callable is for.
        return cast(ApiKey, self._redis.transaction(attempt, keys.API_KEYS, value_from_callable=True))  # type: ignore[arg-type]

    def revoke(self, name: str) -> None:
        """Let a key open nothing any more. Its owner's jobs can enter no longer; those that are there, others must end.

        Raises:
            ApiKeyError: there is no such key.
        """
        if not self._redis.hdel(keys.API_KEYS, name):
            raise _unknown(name)

    def _now_ms(self) -> int:
        seconds, micros = self._redis.time()
        return int(seconds) * 1000 + int(micros) // 1000


def digest(secret: str) -> str:
    """What is kept in place of a key: its SHA-256, in hex.

    Neither salt nor a slow hash: these keep a *password* from being guessed. A key is 256 random bits, which nobody can
    guess from anything; and every request computes this, and finds its key by it.
    """
    return hashlib.sha256(secret.encode()).hexdigest()


def _unknown(name: str) -> ApiKeyError:
    return ApiKeyError(f"there is no key named {name!r}")
