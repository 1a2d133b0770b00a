"""The registry of models, on the emulated and on the real Redis."""

from __future__ import annotations

import json
import time

import pytest
from redis import Redis

from common.adapters.records import Alias, ModelKind, NamedModel, Registered, Resolved, VersionFacts
from common.adapters.registry import AdapterRegistry
from common.errors import AdapterNotFound, Conflict, InvalidRequest, ModelNotFound, NotFound
from common.redis import keys


def facts(adapter_id: str = "a1") -> VersionFacts:
    return VersionFacts(adapter_id, "smol", "b1", 16, ("k_proj", "q_proj"), 1234, summary={"loss": 0.5})


@pytest.fixture
def registry(redis: Redis) -> AdapterRegistry:
    registry = AdapterRegistry(redis)
    registry.note_base("smol", "b1")
    return registry


def numbers(registry: AdapterRegistry, name: str) -> dict[int, str]:
    return {version.number: version.facts.id for version in registry.versions(name)}


def test_nothing_is_known_at_first(redis: Redis) -> None:
    registry = AdapterRegistry(redis)
    assert registry.resolve("") is None
    assert registry.resolve("smol") is None
    assert (registry.known(), registry.names(), registry.aliases()) == ([], [], [])
    assert registry.unknown("x").message == "There is no model 'x'. No model is known yet."


def test_versions_are_numbered_and_the_newest_has_the_bare_name(registry: AdapterRegistry) -> None:
    assert registry.register("support", facts("a1")) == Registered("support", 1, "a1", is_new=True)
    assert registry.register("support", facts("a2")) == Registered("support", 2, "a2", is_new=True)
    assert registry.resolve("support") == Resolved("smol", "support@2", "a2")
    assert registry.resolve("support@1") == Resolved("smol", "support@1", "a1")
    for gone in ("support@3", "support@01", "support@0", "support@", "support@1@1", "other", "@1"):
        assert registry.resolve(gone) is None


def test_registering_the_newest_content_again_changes_nothing(registry: AdapterRegistry) -> None:
    registry.register("support", facts("a1"))
    assert registry.register("support", facts("a1")) == Registered("support", 1, "a1", is_new=False)
    registry.register("support", facts("a2"))
    assert registry.register("support", facts("a1")) == Registered("support", 3, "a1", is_new=True)


def test_the_facts_are_kept_with_the_time(registry: AdapterRegistry) -> None:
    registry.register("support", facts("a1"))
    (version,) = registry.versions("support")
    assert version.facts.created_ms > 1_600_000_000_000
    assert (version.facts.rank, version.facts.modules, version.facts.bytes) == (16, ("k_proj", "q_proj"), 1234)
    assert version.facts.summary == {"loss": 0.5}


@pytest.mark.parametrize("name", ["", "a b", "a@1", "a/b", "-a", "é", "a\n", "x" * 65, "a:b"])
def test_an_ambiguous_name_is_refused(registry: AdapterRegistry, name: str) -> None:
    with pytest.raises(InvalidRequest, match="cannot be a name"):
        registry.register(name, facts())
    with pytest.raises(InvalidRequest, match="cannot be a name"):
        registry.set_alias(name, "smol", set_by="ann")


def test_bases_adapters_and_aliases_share_one_name_space(registry: AdapterRegistry) -> None:
    registry.register("support", facts())
    registry.set_alias("prod", "support", set_by="ann")
    with pytest.raises(Conflict, match="an alias named 'prod'"):
        registry.register("prod", facts())
    with pytest.raises(Conflict, match="a base model named 'smol'"):
        registry.register("smol", facts())
    with pytest.raises(Conflict, match="an adapter named 'support'"):
        registry.set_alias("support", "smol", set_by="ann")
    with pytest.raises(Conflict, match="a base model named 'smol'"):
        registry.set_alias("smol", "support", set_by="ann")
    with pytest.raises(Conflict, match="the alias of requests without a name"):
        registry.register("default", facts())


def test_an_alias_keeps_its_target_when_a_newer_version_appears(registry: AdapterRegistry) -> None:
    registry.register("support", facts("a1"))
    assert registry.set_alias("prod", "support", set_by="ann") == Alias("prod", "support@1", (), "ann")
    registry.register("support", facts("a2"))
    assert registry.resolve("prod") == Resolved("smol", "support@1", "a1")


def test_an_alias_set_from_an_alias_has_the_targets_version(registry: AdapterRegistry) -> None:
    registry.register("support", facts("a1"))
    registry.set_alias("staging", "support", set_by="ann")
    registry.set_alias("prod", "staging", set_by="ann")
    registry.set_alias("staging", "smol", set_by="ann")
    assert [(alias.name, alias.target) for alias in registry.aliases()] == [("prod", "support@1"), ("staging", "smol")]


def test_a_rollback_goes_one_step_back(registry: AdapterRegistry) -> None:
    for adapter_id in ("a1", "a2"):
        registry.register("support", facts(adapter_id))
        registry.set_alias("prod", "support", set_by="ann")
    registry.set_alias("prod", "smol", set_by="ann")
    assert registry.set_alias("prod", "smol", set_by="ann").history == ("support@2", "support@1")
    assert registry.rollback("prod", set_by="bob") == Alias("prod", "support@2", ("support@1",), "bob")
    assert registry.rollback("prod", set_by="bob") == Alias("prod", "support@1", (), "bob")
    with pytest.raises(Conflict, match="no earlier target"):
        registry.rollback("prod", set_by="bob")
    with pytest.raises(NotFound, match="no alias 'other'"):
        registry.rollback("other", set_by="bob")


def test_the_history_is_bounded(registry: AdapterRegistry) -> None:
    for number in range(25):
        registry.register("support", facts(f"a{number}"))
        registry.set_alias("prod", "support", set_by="ann")
    assert registry.alias("prod").history == tuple(f"support@{number}" for number in range(24, 4, -1))


def test_an_alias_cannot_point_to_nothing(registry: AdapterRegistry) -> None:
    registry.register("support", facts())
    with pytest.raises(ModelNotFound, match=r"no model 'suport'\. There are: smol, support\."):
        registry.set_alias("prod", "suport", set_by="ann")
    registry.set_alias("prod", "support", set_by="ann")
    for number in (1, None):
        with pytest.raises(Conflict, match="'support@1' is needed by the alias 'prod'"):
            registry.delete("support", number)
    registry.delete_alias("prod")
    assert registry.delete("support") == [1]
    with pytest.raises(NotFound):
        registry.delete_alias("prod")
    with pytest.raises(NotFound):
        registry.alias("prod")


def test_the_default_moves_by_itself_until_somebody_sets_it(registry: AdapterRegistry) -> None:
    registry.register("trained", facts("a1"))
    registry.set_default("trained")
    assert registry.resolve("") == Resolved("smol", "trained@1", "a1")
    registry.register("trained", facts("a2"))
    registry.set_default("trained")
    assert registry.resolve("default") == Resolved("smol", "trained@2", "a2")
    registry.rollback("default", set_by="ann")
    registry.set_default("trained")
    assert registry.alias("default") == Alias("default", "trained@1", (), "ann")
    registry.delete_alias("default")
    registry.set_default("trained")
    assert registry.alias("default") == Alias("default", "trained@2")


def test_a_deleted_version_is_gone_and_its_number_is_not_reused(redis: Redis, registry: AdapterRegistry) -> None:
    registry.register("support", facts("a1"))
    registry.register("support", facts("a2"))
    assert registry.delete("support", 2) == [2]
    assert registry.resolve("support@2") is None
    assert registry.resolve("support") == Resolved("smol", "support@1", "a1")
    assert registry.deleted_ids() == {"a2"}
    assert registry.delete("support") == [1]
    assert registry.names() == []
    assert not redis.exists(keys.adapter_version("a1"))
    assert registry.register("support", facts("a2")).number == 3
    assert registry.deleted_ids() == {"a1"}


def test_a_base_model_that_nothing_needs_can_be_forgotten(registry: AdapterRegistry) -> None:
    registry.note_base("old", "b2")
    registry.forget_base("old")
    assert registry.bases() == {"smol": "b1"}
    assert registry.created([Resolved("old", "old", "")]) == [0]
    registry.register("old", facts())  # the name is free again
    with pytest.raises(NotFound, match="There are: smol"):
        registry.forget_base("old")


def test_a_base_model_that_something_needs_stays(redis: Redis, registry: AdapterRegistry) -> None:
    registry.note_base("other", "b2")
    registry.set_alias("prod", "smol", set_by="")
    redis.hset(keys.job("j"), mapping={"model": "smol", "adapter_id": ""})
    redis.sadd(keys.LANES, "generate")
    redis.zadd("slm:lane:generate:pending", {"j": 1})
    registry.register("support", facts("a1"))
    for user, leave in (
        ("the alias 'prod'", lambda: registry.delete_alias("prod")),
        ("the adapter 'support'", lambda: registry.delete("support")),
        ("the open job j", lambda: redis.delete("slm:lane:generate:pending")),
    ):
        with pytest.raises(Conflict, match=f"'smol' is needed by {user}"):
            registry.forget_base("smol")
        leave()
    registry.forget_base("smol")
    assert registry.bases() == {"other": "b2"}


def test_content_that_another_name_holds_stays(registry: AdapterRegistry) -> None:
    registry.register("support", facts("a1"))
    registry.register("copy", facts("a1"))
    registry.delete("support")
    assert registry.deleted_ids() == set()
    assert registry.resolve("copy") == Resolved("smol", "copy@1", "a1")


@pytest.mark.parametrize(("name", "number"), [("other", None), ("support", 7), ("smol", None)])
def test_what_does_not_exist_cannot_be_deleted(registry: AdapterRegistry, name: str, number: int | None) -> None:
    registry.register("support", facts())
    with pytest.raises(AdapterNotFound, match="There are: support"):
        registry.delete(name, number)


@pytest.mark.parametrize("lane", ["prepare", "generate:chat", "control"])
@pytest.mark.parametrize("place", ["pending", "dispatched", "leases"])
def test_a_version_that_an_open_job_needs_stays(redis: Redis, registry: AdapterRegistry, lane: str, place: str) -> None:
    registry.register("support", facts("a1"))
    registry.register("support", facts("a2"))
    redis.hset(keys.job("j"), mapping={"model": "support@1", "adapter_id": "a1"})
    redis.sadd(keys.LANES, lane)
    redis.zadd(f"slm:lane:{lane}:{place}", {"j": 1})
    for number in (1, None):
        with pytest.raises(Conflict, match="'support@1' is needed by the open job j"):
            registry.delete("support", number)
    assert registry.delete("support", 2) == [2]
    redis.delete(f"slm:lane:{lane}:{place}")
    assert registry.delete("support") == [1]


def test_a_version_that_an_open_batch_needs_stays(redis: Redis, registry: AdapterRegistry) -> None:
    registry.register("support", facts("a1"))
    redis.hset(keys.batch("b"), "models", json.dumps({"support": "support@1"}))
    redis.hset(keys.batch("old"), "id", "old")
    redis.zadd(keys.OPEN_BATCHES, {"b": 1, "old": 2})
    with pytest.raises(Conflict, match="'support@1' is needed by the open batch b"):
        registry.delete("support", 1)


def test_nothing_is_deleted_while_it_is_unknown_what_a_batch_names(redis: Redis, registry: AdapterRegistry) -> None:
    registry.register("support", facts("a1"))
    redis.hset(keys.batch("b"), mapping={"status": "validating", "models": "{}"})
    redis.zadd(keys.OPEN_BATCHES, {"b": time.time()})
    with pytest.raises(Conflict, match="'support' is needed by the open batch b"):
        registry.delete("support", 1)
    redis.hset(keys.batch("b"), "status", "in_progress")
    assert registry.delete("support", 1) == [1]


def test_a_batch_that_is_stuck_in_its_validation_holds_nothing(redis: Redis, registry: AdapterRegistry) -> None:
    registry.register("support", facts("a1"))
    redis.hset(keys.batch("b"), mapping={"status": "validating", "models": '{"support": "support@1"}'})
    redis.zadd(keys.OPEN_BATCHES, {"b": time.time() - 3600})
    assert registry.delete("support", 1) == [1]


def test_a_deletion_takes_the_version_out_of_all_histories(registry: AdapterRegistry) -> None:
    for adapter_id in ("a1", "a2", "a3"):
        registry.register("support", facts(adapter_id))
        registry.set_alias("prod", "support", set_by="ann")
    registry.delete("support", 2)
    assert registry.alias("prod").history == ("support@1",)
    assert registry.rollback("prod", set_by="ann").target == "support@1"


def test_a_folder_makes_a_new_version_only_when_its_content_changes(registry: AdapterRegistry) -> None:
    assert registry.register_folder("trained", facts("a1")) == Registered("trained", 1, "a1", is_new=True)
    assert registry.register("trained", facts("a2")).number == 2
    assert registry.register_folder("trained", facts("a1")) == Registered("trained", 1, "a1", is_new=False)
    assert registry.resolve("trained") == Resolved("smol", "trained@2", "a2")
    assert registry.register_folder("trained", facts("a3")) == Registered("trained", 3, "a3", is_new=True)
    assert registry.register_folder("trained", facts("a1")) == Registered("trained", 4, "a1", is_new=True)


def test_a_folder_does_not_bring_a_deleted_version_back(registry: AdapterRegistry) -> None:
    registry.register_folder("trained", facts("a1"))
    registry.delete("trained")
    assert registry.register_folder("trained", facts("a1")) is None
    assert registry.names() == []
    assert registry.register_folder("trained", facts("a2")) == Registered("trained", 2, "a2", is_new=True)


def test_everything_that_a_request_can_name_is_known(registry: AdapterRegistry) -> None:
    registry.register("support", facts("a1"))
    registry.register("support", facts("a2"))
    registry.set_alias("prod", "support@1", set_by="ann")
    assert registry.known() == [
        NamedModel("prod", ModelKind.ALIAS, Resolved("smol", "support@1", "a1")),
        NamedModel("smol", ModelKind.BASE, Resolved("smol", "smol", "")),
        NamedModel("support", ModelKind.ADAPTER, Resolved("smol", "support@2", "a2")),
    ]
    assert registry.bases() == {"smol": "b1"}
    assert numbers(registry, "support") == {1: "a1", 2: "a2"}


def test_workers_hear_of_every_change_and_of_nothing_else(redis: Redis, registry: AdapterRegistry) -> None:
    def announced() -> int:
        redis.publish(keys.CONTROL_CHANNEL, "that was all")
        return sum(1 for _ in iter(lambda: pubsub.get_message(timeout=60)["data"], "that was all"))

    with redis.pubsub() as pubsub:
        pubsub.subscribe(keys.CONTROL_CHANNEL)
        pubsub.get_message(timeout=60)
        registry.register("support", facts())
        registry.register("support", facts())
        assert announced() == 1
        registry.set_alias("prod", "support", set_by="ann")
        registry.set_alias("prod", "support", set_by="ann")
        assert announced() == 1
        registry.set_alias("prod", "smol", set_by="ann")
        registry.rollback("prod", set_by="ann")
        registry.delete_alias("prod")
        registry.delete("support")
        assert announced() == 4
