"""Random histories of the registry: whatever is registered, aliased, rolled back and deleted in whatever order.

An alias never points to nothing, a number is never used again, a deleted version is gone, what a job or batch needs
stays, and exactly the content that no name has any more may be deleted from the disk.
"""

from __future__ import annotations

import json

import pytest
from fakeredis import FakeRedis
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from redis import Redis

from common.adapters.records import Resolved, VersionFacts
from common.adapters.registry import AdapterRegistry
from common.errors import AdapterNotFound, Conflict, ModelNotFound, NotFound
from common.redis import keys

BASE = "smol"
ADAPTERS, ALIASES = ("support", "sales"), ("prod", "default")
CONTENTS = ("a1", "a2", "a3")
NAMES = st.sampled_from(ADAPTERS)
PICKS = st.integers(0, 30)  # an existing version, or one that may not exist


class RegistryHistories(RuleBasedStateMachine):
    """`versions` and the other fields are what the registry should have."""

    redis: Redis  # set by the test

    @initialize()
    def begin(self) -> None:
        self.redis.flushall()
        self.registry = AdapterRegistry(self.redis)
        self.registry.note_base(BASE, "b1")
        self.versions: dict[str, dict[int, str]] = {name: {} for name in ADAPTERS}
        self.last = dict.fromkeys(ADAPTERS, 0)
        self.folders: dict[str, str] = {}
        self.aliases: dict[str, list[str]] = {}  # alias -> its target, and the earlier ones
        self.by_hand: set[str] = set()
        self.jobs: dict[str, str] = {}
        self.batches: dict[str, str] = {}
        self.ever: set[str] = set()

    # -- the outside world ---------------------------------------------------------------------------------------------

    @rule(name=NAMES, content=st.sampled_from(CONTENTS))
    def publish(self, name: str, content: str) -> None:
        is_new = self.newest(name) != content
        if is_new:
            self.add(name, content)
        found = self.registry.register(name, VersionFacts(content, BASE))
        assert (found.is_new, found.id) == (is_new, content)
        assert found.number == max(self.versions[name])

    @rule(name=NAMES, content=st.sampled_from(CONTENTS))
    def change_folder(self, name: str, content: str) -> None:
        has_changed = self.folders.get(name) != content
        self.folders[name] = content
        is_new = has_changed and self.newest(name) != content
        if is_new:
            self.add(name, content)
        found = self.registry.register_folder(name, VersionFacts(content, BASE))
        holding = [number for number, one in self.versions[name].items() if one == content]
        assert (found and found.number) == max(holding, default=None)
        assert (found is not None and found.is_new) == is_new

    @rule(alias=st.sampled_from(ALIASES), name=st.sampled_from((*ADAPTERS, *ALIASES, BASE)))
    def set_alias(self, alias: str, name: str) -> None:
        self.point(alias, name, None)

    @rule(alias=st.sampled_from(ALIASES), pick=PICKS)
    def set_alias_to_a_version(self, alias: str, pick: int) -> None:
        self.point(alias, *self.picked(pick))

    def point(self, alias: str, name: str, number: int | None) -> None:
        wanted = name if number is None else f"{name}@{number}"
        target = self.meaning(wanted)
        if target is None:
            with pytest.raises(ModelNotFound):
                self.registry.set_alias(alias, wanted, set_by="ann")
            return
        assert self.registry.set_alias(alias, wanted, set_by="ann").target == target
        self.move(alias, target)
        self.by_hand.add(alias)

    @rule(name=NAMES)
    def follow_folder(self, name: str) -> None:
        self.registry.set_default(name)
        target = self.meaning(name)
        if target is not None and "default" not in self.by_hand:
            self.move("default", target)

    @rule(alias=st.sampled_from(ALIASES))
    def roll_back(self, alias: str) -> None:
        if len(self.aliases.get(alias, [])) < 2:
            with pytest.raises(Conflict if alias in self.aliases else NotFound):
                self.registry.rollback(alias, set_by="ann")
            return
        self.aliases[alias].pop(0)
        self.by_hand.add(alias)
        assert self.registry.rollback(alias, set_by="ann").target == self.aliases[alias][0]

    @rule(alias=st.sampled_from(ALIASES))
    def delete_alias(self, alias: str) -> None:
        self.by_hand.discard(alias)
        if self.aliases.pop(alias, None) is None:
            with pytest.raises(NotFound):
                self.registry.delete_alias(alias)
        else:
            self.registry.delete_alias(alias)

    @rule(name=NAMES)
    def delete_adapter(self, name: str) -> None:
        self.delete(name, None)

    @rule(pick=PICKS)
    def delete_version(self, pick: int) -> None:
        self.delete(*self.picked(pick))

    def delete(self, name: str, number: int | None) -> None:
        numbers = [one for one in self.versions[name] if number in (None, one)]
        models = {f"{name}@{one}" for one in numbers}
        needed = {history[0] for history in self.aliases.values()} | {*self.jobs.values(), *self.batches.values()}
        if not numbers or models & needed:
            with pytest.raises(Conflict if numbers else AdapterNotFound):
                self.registry.delete(name, number)
            return
        assert self.registry.delete(name, number) == sorted(numbers)
        for one in numbers:
            del self.versions[name][one]
        for alias, history in self.aliases.items():
            self.aliases[alias] = [target for target in history if target not in models]

    @rule(job=st.sampled_from(["j1", "j2"]), pick=PICKS)
    def submit(self, job: str, pick: int) -> None:
        name, number = self.picked(pick)
        resolved = self.registry.resolve(f"{name}@{number}")
        if resolved is not None:
            self.redis.hset(keys.job(job), "model", resolved.model)
            self.redis.sadd(keys.LANES, "generate")
            self.redis.zadd(keys.leases("generate"), {job: 1})
            self.jobs[job] = resolved.model

    @rule(job=st.sampled_from(["j1", "j2"]))
    def end(self, job: str) -> None:
        self.redis.zrem(keys.leases("generate"), job)
        self.jobs.pop(job, None)

    @rule(name=st.sampled_from((*ADAPTERS, *ALIASES)))
    def create_batch(self, name: str) -> None:
        resolved = self.registry.resolve(name)
        if resolved is not None:
            self.redis.hset(keys.batch("b"), "models", json.dumps({name: resolved.model}))
            self.redis.zadd(keys.OPEN_BATCHES, {"b": 1})
            self.batches["b"] = resolved.model

    @rule()
    def end_batch(self) -> None:
        self.redis.zrem(keys.OPEN_BATCHES, "b")
        self.batches.clear()

    # -- what should be there ------------------------------------------------------------------------------------------

    def picked(self, pick: int) -> tuple[str, int]:
        existing = [(name, number) for name in ADAPTERS for number in self.versions[name]]
        others = [(ADAPTERS[0], 9)] if existing else [(name, 1) for name in ADAPTERS]
        return (existing + others)[pick % len(existing + others)]

    def newest(self, name: str) -> str | None:
        versions = self.versions[name]
        return versions[max(versions)] if versions else None

    def add(self, name: str, content: str) -> None:
        self.last[name] += 1
        self.versions[name][self.last[name]] = content
        self.ever.add(content)

    def move(self, alias: str, target: str) -> None:
        history = self.aliases.setdefault(alias, [])
        if history[:1] != [target]:
            history.insert(0, target)
            del history[21:]

    def meaning(self, name: str) -> str | None:
        if name in self.aliases:
            return self.aliases[name][0]
        if name == BASE:
            return BASE
        adapter, _, number = name.partition("@")
        versions = self.versions.get(adapter, {})
        if number:
            return name if int(number) in versions else None
        return f"{adapter}@{max(versions)}" if versions else None

    @invariant()
    def names_stand_for_what_they_should(self) -> None:
        found = {name: {one.number: one.facts.id for one in self.registry.versions(name)} for name in ADAPTERS}
        assert found == self.versions
        assert self.registry.names() == sorted(name for name in ADAPTERS if self.versions[name])
        for name in (*ADAPTERS, *ALIASES, BASE, "support@1", "sales@2", ""):
            resolved = self.registry.resolve(name)
            assert (resolved and resolved.model) == self.meaning(name or "default")

    @invariant()
    def aliases_point_to_something(self) -> None:
        shown = {alias.name: [alias.target, *alias.history] for alias in self.registry.aliases()}
        assert shown == self.aliases
        for target in {target for history in shown.values() for target in history}:
            name, _, number = target.partition("@")
            content = self.versions[name][int(number)] if number else ""
            assert self.registry.resolve(target) == Resolved(BASE, target, content)

    @invariant()
    def only_content_without_a_name_may_be_deleted(self) -> None:
        held = {content for versions in self.versions.values() for content in versions.values()}
        assert self.registry.deleted_ids() == self.ever - held
        assert {content for content in CONTENTS if self.registry.facts(content)} == held


@pytest.mark.parametrize("redis", ["fake", "real"], indirect=True)  # a cluster would add nothing but time
def test_random_histories_of_the_registry(redis: Redis) -> None:
    machine = type("Histories", (RegistryHistories,), {"redis": redis})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=10 if isinstance(redis, FakeRedis) else 40,  # its Lua is ten times slower
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
