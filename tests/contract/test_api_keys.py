"""The store of API keys, on the emulated and on the real Redis."""

from __future__ import annotations

import re

import pytest
from redis import Redis

from common.owners.api_keys import ApiKey, ApiKeyError, ApiKeyStore, Limits, Role, digest
from common.redis import keys


@pytest.fixture
def store(redis: Redis) -> ApiKeyStore:
    return ApiKeyStore(redis)


def test_a_key_is_random_and_only_its_hash_is_stored(redis: Redis, store: ApiKeyStore) -> None:
    first, second = store.create("ann", Role.USER), store.create("bob", Role.ADMIN)
    assert first != second
    assert re.fullmatch(r"slm_[A-Za-z0-9_-]{43}", first)
    assert [(key.name, key.role, key.digest) for key in store.all()] == [
        ("ann", Role.USER, digest(first)),
        ("bob", Role.ADMIN, digest(second)),
    ]
    kept = " ".join(redis.hvals(keys.API_KEYS))
    assert first not in kept
    assert first.removeprefix("slm_") not in kept


def test_limits_are_stored_with_the_key(store: ApiKeyStore) -> None:
    limits = Limits(requests_per_minute=60, tokens_per_day=1000)
    store.create("ann", Role.USER, limits)
    assert store.all()[0].limits == limits


def test_a_name_belongs_to_one_key(store: ApiKeyStore) -> None:
    store.create("ann", Role.USER)
    before = store.all()
    with pytest.raises(ApiKeyError, match="there is a key named 'ann'"):
        store.create("ann", Role.ADMIN)
    assert store.all() == before


@pytest.mark.parametrize("name", ["", "a b", "a:b", "-ann", "anonymous", "é", "a\n", "x" * 65])
def test_an_ambiguous_name_is_refused(store: ApiKeyStore, name: str) -> None:
    with pytest.raises(ApiKeyError, match="cannot be the name"):
        store.create(name, Role.USER)
    assert store.all() == []


def test_a_change_leaves_the_other_fields_alone(store: ApiKeyStore) -> None:
    secret = store.create("ann", Role.USER, Limits(requests_per_minute=60, concurrent_jobs=4))
    changed = store.change("ann", {"role": Role.ADMIN, "requests_per_minute": None, "tokens_per_day": 9})
    assert changed == store.all()[0]
    assert (changed.role, changed.limits) == (Role.ADMIN, Limits(concurrent_jobs=4, tokens_per_day=9))
    assert changed.digest == digest(secret)


def test_a_revoked_key_is_gone_and_its_name_free(store: ApiKeyStore) -> None:
    secret = store.create("ann", Role.USER)
    store.revoke("ann")
    assert store.all() == []
    for refuse in (lambda: store.revoke("ann"), lambda: store.change("ann", {"role": Role.ADMIN})):
        with pytest.raises(ApiKeyError, match="no key named 'ann'"):
            refuse()
    assert store.create("ann", Role.USER) != secret


def test_a_key_that_is_revoked_while_it_is_changed_stays_revoked(
    redis: Redis, store: ApiKeyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.create("ann", Role.USER)
    read = ApiKey.from_json

    def revoked_meanwhile(text: str) -> ApiKey:
        redis.hdel(keys.API_KEYS, "ann")
        return read(text)

    monkeypatch.setattr(ApiKey, "from_json", revoked_meanwhile)
    with pytest.raises(ApiKeyError, match="no key named 'ann'"):
        store.change("ann", {"role": Role.ADMIN})
    assert not redis.exists(keys.API_KEYS)
