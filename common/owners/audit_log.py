"""Records in Redis what operators did: who, what and to what. The oldest entries make room for new ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast

from redis import Redis

from common.owners.collection import Page
from common.redis import keys

COMMAND_LINE = "command line"  # who used `slm` on the server's machine; no owner has a name with a space
MOST = 10_000
ID = r"[0-9]{1,18}-[0-9]{1,18}"


@dataclass(frozen=True, slots=True)
class Change:
    """Something that an operator did.

    Args:
        owner: the owner of the API key that was used.
        action: what was done, such as `set_alias`.
        target: what was changed, such as the alias; "" if `job_id` says it.
        details: the new value, such as the alias's model; may be "".
        job_id: the job that does it; "" if there is none.
    """

    owner: str
    action: str
    target: str = ""
    details: str = ""
    job_id: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """A recorded change; `at_ms` is since the epoch, on Redis's clock."""

    id: str
    at_ms: int
    change: Change


class AuditLog:
    """Adds and lists entries. Every method may raise `redis.exceptions.RedisError`."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def add(self, change: Change) -> None:
        """Record a change."""
        fields: dict[Any, Any] = asdict(change)
        self._redis.xadd(keys.AUDIT, fields, maxlen=MOST)

    def newest(self, limit: int, *, after: str | None = None) -> Page[Entry]:
        """Return the entries that follow the one with the id `after`, newest first."""
        end = "+" if after is None else f"({after}"
        found = cast(list[tuple[str, dict[str, str]]], self._redis.xrevrange(keys.AUDIT, end, count=limit + 1))
        entries = [Entry(id_, int(id_.partition("-")[0]), Change(**fields)) for id_, fields in found]
        return Page(entries[:limit], has_more=len(entries) > limit)


def described(changes: Mapping[str, object]) -> str:
    """Return new values as the details of a change: "role: admin, files: none"."""
    return ", ".join(f"{name}: {'none' if value is None else value}" for name, value in changes.items())
