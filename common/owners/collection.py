"""Pages through an owner's items, ordered by creation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

from redis import Redis

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

    If `after` is None or not in the index, the page starts with the newest item.
    """
    rank = None if after is None else redis.zrevrank(index, after)
    begin = 0 if rank is None else int(cast(int, rank)) + 1
    found: list[T] = []
    gone: list[str] = []
    for one in cast(list[str], redis.zrevrange(index, begin, -1)):
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


def _drop(redis: Redis, index: str, gone: Sequence[str]) -> None:
    if gone:
        redis.zrem(index, *gone)
