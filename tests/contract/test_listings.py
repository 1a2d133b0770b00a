"""Listings that are read page by page while items are deleted or expire; on the emulated and on the real Redis."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from redis import Redis

from common.conversations.conversation import Quota
from common.conversations.search import search
from common.conversations.store import About, ConversationStore
from common.owners.batches import BatchStore
from common.owners.collection import Page, page_of
from common.owners.files import FileStore
from common.redis import keys

TTL_S = 600
LISTING = keys.files("me")
NAMES = ["e", "d", "c", "b", "a"]  # newest first


def page(redis: Redis, after: str | None, *, gone: str = "", limit: int = 9) -> list[str]:
    """A page of a listing, of which the items in `gone` have expired."""
    found: Page[str] = page_of(redis, LISTING, lambda one: None if one in gone else one, after=after, limit=limit)
    return list(found.items)


@pytest.mark.parametrize("times", [(1, 2, 3, 4, 5), (1, 1, 1, 1, 1), (1, 1, 2, 2, 2)], ids=["apart", "same", "mixed"])
def test_a_page_goes_on_where_its_deleted_beginning_was(redis: Redis, times: tuple[int, ...]) -> None:
    for after in NAMES:
        redis.delete(LISTING)
        redis.zadd(LISTING, dict(zip(reversed(NAMES), times, strict=True)))
        assert page(redis, None, gone=after) == [one for one in NAMES if one != after]
        assert redis.zscore(LISTING, after) is None
        assert page(redis, after) == NAMES[NAMES.index(after) + 1 :]
        assert page(redis, after, gone="b") == [one for one in NAMES[NAMES.index(after) + 1 :] if one != "b"]


def test_an_unknown_beginning_is_the_newest_item(redis: Redis) -> None:
    redis.zadd(LISTING, {"a": 1, "b": 2})
    assert page(redis, "unknown") == ["b", "a"]


def test_the_places_of_deleted_items_are_few_and_expire(redis: Redis) -> None:
    redis.zadd(LISTING, {str(number): number for number in range(10_010)})
    page_of(redis, LISTING, lambda _: None, after=None, limit=1)
    places = keys.deleted(LISTING)
    assert redis.zcard(places) == 10_000
    assert 0 < int(redis.ttl(places)) <= 3600


def read_all(read: Callable[[str | None], list[str]], delete: Callable[[str], None]) -> list[str]:
    """Read page by page, and delete the last item of each before the next."""
    seen: list[str] = []
    while len(seen) < 20 and (found := read(seen[-1] if seen else None)):
        seen += found
        delete(found[-1])
    return seen


def test_files_are_read_once_while_they_are_deleted(redis: Redis) -> None:
    store = FileStore(redis, ttl_s=TTL_S)
    made = [store.put("me", "a.jsonl", "batch", ["{}"]).id for _ in range(6)]
    seen = read_all(
        lambda after: [one.id for one in store.newest("me", after=after, limit=2).items],
        lambda file_id: store.delete(store.find(file_id)),
    )
    assert sorted(seen) == sorted(made)


def test_batches_are_read_once_while_they_expire(redis: Redis) -> None:
    store, files = BatchStore(redis, ttl_s=TTL_S), FileStore(redis, ttl_s=TTL_S)
    file = files.put("me", "a.jsonl", "batch", ["{}"])
    made = [store.enter("me", endpoint="/v1/completions", input_file_id=file.id, metadata={}).id for _ in range(6)]

    def expire(batch_id: str) -> None:
        redis.delete(keys.batch(batch_id))
        store.newest("me", after=None, limit=9)  # another reader, who removes it from the listing

    seen = read_all(lambda after: [one.id for one in store.newest("me", after=after, limit=2).items], expire)
    assert sorted(seen) == sorted(made)


def test_conversations_are_read_and_searched_once_while_they_are_deleted(redis: Redis) -> None:
    store = ConversationStore(redis, quota=Quota(100, 100, 100_000), ttl_s=TTL_S)
    for read in (
        lambda after: [one.id for one in store.newest("me", after=after, limit=2).items],
        lambda after: [one.conversation.id for one in search(redis, "me", "tea", after=after, limit=2).matches],
    ):
        made = [store.create("me", About(title="Tea")) for _ in range(6)]
        assert sorted(read_all(read, store.delete)) == sorted(made)
        for one in made:
            store.delete(one)
