"""Pages through an owner's items, ordered by creation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

from redis import Redis

from common.redis import keys
from common.redis.scripts import Script

T = TypeVar("T")
Limiter = Callable[[], AbstractContextManager[None]]  # entered while a part of a large item is read


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A part of a listing, newest first; `has_more` says whether older items follow."""

    items: Sequence[T]
    has_more: bool


def page_of(
    redis: Redis,
    index: str,
    find: Callable[[str], T | None],
    *,
    after: str | None,
    limit: int,
    is_wanted: Callable[[T], bool] = lambda _: True,
) -> Page[T]:
    """Return the items that follow `after` in the index, a sorted set of ids, newest first; drop expired ids from it.

    `after` may have been deleted within the last hour. If it is None or unknown, the page starts with the newest item.
    """
    found: list[T] = []
    gone: list[str] = []
    for one in cast(list[str], redis.zrevrange(index, rank_after(redis, index, after), -1)):
        if (item := find(one)) is None:
            gone.append(one)
        elif not is_wanted(item):
            continue
        elif len(found) == limit:
            _drop(redis, index, gone)
            return Page(found, has_more=True)
        else:
            found.append(item)
    _drop(redis, index, gone)
    return Page(found, has_more=False)


def rank_after(redis: Redis, index: str, after: str | None) -> int:
    """Return the rank, newest first, of the item that follows `after`, as `page_of` needs it."""
    if after is None:
        return 0
    if (rank := cast(int | None, redis.zrevrank(index, after))) is not None:
        return rank + 1
    if (place := redis.zscore(keys.deleted(index), after)) is None:
        return 0
    beside = cast(list[str], redis.zrangebyscore(index, place, place))
    later = redis.zcount(index, f"({place}", "+inf")
    return later + sum(one > after for one in beside)


def _drop(redis: Redis, index: str, gone: Sequence[str]) -> None:
    if gone:
        Script(redis, "delist")(index, *gone)
