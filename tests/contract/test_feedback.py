"""Feedback on jobs: kept with what it is about, within its owner's limit; on the emulated and on the real Redis."""

from __future__ import annotations

import time

import pytest
from redis import Redis

from common.errors import NotFound, QuotaExceeded
from common.owners.api_keys import Limits
from common.owners.feedback import Feedback, FeedbackStore, Judged, Judgement, Wanted
from common.redis import keys

TTL_S = 600
A, B, C = (f"00000000-0000-0000-0000-00000000000{one}" for one in "abc")
JUDGED = Judged({"prompt": "Where is Zubrovia?"}, "I do not know.", True, "support@2", "gpt2")


@pytest.fixture
def store(redis: Redis) -> FeedbackStore:
    return FeedbackStore(redis, ttl_s=TTL_S)


def put(store: FeedbackStore, job_id: str, owner: str = "me", *, judged: Judged = JUDGED, **said: object) -> Feedback:
    return store.put(job_id, owner, Judgement(**said), judged)  # type: ignore[arg-type]


def ids(store: FeedbackStore, **wanted: object) -> list[str]:
    return [one.job_id for one in store.read(Wanted(**wanted))]  # type: ignore[arg-type]


def test_it_is_found_as_it_was_given(store: FeedbackStore, redis: Redis) -> None:
    kept = put(store, A, rating="down", correction="In the Älps.", tags=("geo", "new"))
    assert store.find(A) == kept
    assert kept.judged == JUDGED
    assert 0 < int(redis.ttl(keys.feedback(A))) <= TTL_S  # type: ignore[arg-type]


def test_later_feedback_replaces_it_and_keeps_the_time_of_the_first(store: FeedbackStore) -> None:
    first = put(store, A, rating="down", correction="B")
    time.sleep(0.002)
    second = put(store, A, rating="up")
    assert second.judgement == Judgement("up")
    assert second.created_ms == first.created_ms < second.updated_ms
    assert ids(store) == [A]


def test_it_can_be_deleted(store: FeedbackStore, redis: Redis) -> None:
    store.delete(put(store, A, rating="up"))
    with pytest.raises(NotFound):
        store.find(A)
    assert list(redis.scan_iter("slm:feedback:*")) == []


def test_it_is_filtered_by_owner_tags_and_model(store: FeedbackStore) -> None:
    put(store, A, tags=("x", "y"))
    put(store, B, tags=("x",), judged=Judged({"prompt": "A"}, "B", True, "gpt2", "gpt2"))
    put(store, C, owner="ann", tags=("y",))
    assert ids(store) == [A, B, C]
    assert ids(store, owner="me") == [A, B]
    assert ids(store, tags=frozenset({"x"})) == [A, B]
    assert ids(store, tags=frozenset({"x", "y"})) == [A]
    assert (ids(store, model="support"), ids(store, model="support@2")) == ([A, C], [A, C])
    assert (ids(store, model="gpt2"), ids(store, model="support@1")) == ([A, B, C], [])


def test_it_is_filtered_by_the_time_of_the_latest_change(store: FeedbackStore) -> None:
    times = {}
    for job_id in (A, B, C):
        times[job_id] = put(store, job_id, rating="up").updated_ms
        time.sleep(0.002)
    assert ids(store, since_ms=times[B]) == [B, C]
    assert ids(store, until_ms=times[B]) == [A, B]
    assert ids(store, since_ms=times[B], until_ms=times[B]) == [B]


def page(store: FeedbackStore, after: str | None = None, limit: int = 2, **wanted: object) -> tuple[list[str], bool]:
    found = store.page(Wanted(**wanted), after=after, limit=limit)  # type: ignore[arg-type]
    return [one.job_id for one in found.items], found.has_more


def test_pages_have_the_latest_change_first(store: FeedbackStore) -> None:
    for job_id, owner in ((A, "me"), (B, "me"), (C, "ann"), (A, "me")):
        put(store, job_id, owner, rating="up")
        time.sleep(0.002)
    assert page(store) == ([A, C], True)
    assert page(store, after=C) == ([B], False)
    assert page(store, owner="me") == ([A, B], False)
    assert page(store, rating="down") == ([], False)
    store.delete(store.find(C))
    assert page(store, after=C) == ([B], False), "a page continues where the deleted one was"
    assert page(store, after=C, owner="me") == ([B], False)
    assert page(store, after="unknown", limit=1) == ([A], True)


def test_a_page_of_long_texts_is_short(store: FeedbackStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("common.owners.feedback.PAGE_CHARS", 1000)
    for job_id in (A, B, C):
        put(store, job_id, correction="x" * 600)
        time.sleep(0.002)
    assert page(store, limit=3) == ([C, B], True)
    assert page(store, after=B, limit=3) == ([A], False)


def test_the_size_of_an_owners_feedback_is_limited(store: FeedbackStore) -> None:
    limits = Limits(feedback_bytes=600)
    store.put(A, "me", Judgement(correction="x" * 200), JUDGED, limits)
    with pytest.raises(QuotaExceeded, match="600 bytes") as refused:
        store.put(B, "me", Judgement(correction="x" * 200), JUDGED, limits)
    assert refused.value.limit == 600
    store.put(A, "me", Judgement(correction="x" * 300), JUDGED, limits)  # instead of the first
    store.put(B, "ann", Judgement(correction="x" * 200), JUDGED, limits)
    store.delete(store.find(A))
    store.put(B, "me", Judgement(correction="x" * 200), JUDGED, limits)


def test_what_has_expired_makes_room(store: FeedbackStore, redis: Redis) -> None:
    limits = Limits(feedback_bytes=600)
    old = store.put(A, "me", Judgement(correction="x" * 200), JUDGED, limits)
    redis.delete(keys.feedback(A))
    for index in (keys.FEEDBACK, keys.owner_feedback("me")):
        redis.zadd(index, {A: old.updated_ms - TTL_S * 1000 - 1})
    assert ids(store) == []
    store.put(B, "me", Judgement(correction="x" * 200), JUDGED, limits)
    assert redis.zcard(keys.FEEDBACK) == 1
