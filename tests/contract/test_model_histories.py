"""Random histories of jobs while adapters are published, aliases move, and versions are deleted.

Whatever happens, a job keeps the version that its name stood for when it was accepted, and that version stays as long
as the job is open.
"""

from __future__ import annotations

import itertools

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from redis import Redis

from common.adapters.names import split_version
from common.adapters.records import Resolved, VersionFacts
from common.adapters.registry import AdapterRegistry
from common.errors import AdapterNotFound, Conflict, ModelNotFound, NotFound, NoWorker
from common.jobs import events
from common.jobs.job import JobKind, JobState
from common.jobs.store import Claim, JobOptions
from common.redis import keys
from tests.contract.test_job_store import Station

BASE = "smol"
NAMES = st.sampled_from(("support", "sales"))
REQUESTED = st.sampled_from(("", BASE, "support", "sales", "support@1", "sales@2", "prod", "default"))
ALIASES = st.sampled_from(("prod", "default"))
UNRESOLVED = Resolved("", "", "")


class JobHistories(RuleBasedStateMachine):
    """`accepted` has what each job should run on, and `claims` those that run."""

    redis: Redis  # set by the test

    @initialize()
    def begin(self) -> None:
        self.redis.flushall()
        self.station = Station(self.redis, slots=100)
        self.store, self.registry = self.station.store, AdapterRegistry(self.redis)
        self.numbers = itertools.count()
        self.accepted: dict[str, Resolved] = {}
        self.claims: dict[str, Claim] = {}

    # -- the registry --------------------------------------------------------------------------------------------------

    @rule()
    def start_a_worker(self) -> None:
        self.registry.note_base(BASE, "b1")

    @rule(name=NAMES)
    def publish(self, name: str) -> None:
        self.registry.register(name, VersionFacts(f"content-{next(self.numbers)}", BASE))

    @rule(alias=ALIASES, model=st.sampled_from((BASE, "support", "sales", "support@1", "sales@1")))
    def point(self, alias: str, model: str) -> None:
        if self.registry.resolve(model) is not None:
            self.registry.set_alias(alias, model, set_by="ann")

    @rule(alias=ALIASES)
    def roll_back(self, alias: str) -> None:
        try:
            self.registry.rollback(alias, set_by="ann")
        except (Conflict, NotFound):
            assert len(self.history_of(alias)) < 2

    @rule(alias=ALIASES)
    def delete_alias(self, alias: str) -> None:
        if self.history_of(alias):
            self.registry.delete_alias(alias)

    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        used = {self.accepted[job_id].model for job_id in self.open()}
        needed = used | {alias.target for alias in self.registry.aliases()}
        model = data.draw(st.sampled_from(sorted({one for one in used if "@" in one} | {"support@1", "sales@2"})))
        name, number = split_version(model)
        try:
            self.registry.delete(name, number)
        except Conflict:
            assert model in needed
        except AdapterNotFound:
            assert self.registry.resolve(model) is None
        else:
            assert model not in needed

    # -- jobs ----------------------------------------------------------------------------------------------------------

    @rule(name=REQUESTED, kind=st.sampled_from((JobKind.GENERATE, JobKind.STREAM, JobKind.TOKENIZE)))
    def submit(self, name: str, kind: JobKind) -> None:
        job_id, meaning = f"j{next(self.numbers)}", self.registry.resolve(name)
        if name and meaning is None:
            with pytest.raises(ModelNotFound if self.registry.bases() else NoWorker):
                self.enter(job_id, kind, name)
            return
        self.enter(job_id, kind, name)
        self.accepted[job_id] = meaning or UNRESOLVED

    def enter(self, job_id: str, kind: JobKind, name: str) -> None:
        self.store.submit(job_id, kind, {"prompt": job_id}, owner="me", max_queue=1000, options=JobOptions(model=name))

    @rule(data=st.data())
    def claim(self, data: st.DataObject) -> None:
        waiting = sorted(self.open() - self.claims.keys())
        if waiting:
            job_id = data.draw(st.sampled_from(waiting))
            if self.accepted[job_id] == UNRESOLVED:
                self.accepted[job_id] = self.registry.resolve("") or UNRESOLVED
            claim = self.store.claim(job_id, "w1", lease_s=600)
            assert claim is not None
            assert meaning_of(claim) == self.accepted[job_id]
            self.claims[job_id] = claim

    @rule(data=st.data())
    def kill(self, data: st.DataObject) -> None:
        if self.claims:
            job_id = data.draw(st.sampled_from(sorted(self.claims)))
            lane = self.claims.pop(job_id).job.lane
            self.redis.zadd(keys.leases(lane), {job_id: 0})
            self.store.reap()

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        if self.claims:
            job_id = data.draw(st.sampled_from(sorted(self.claims)))
            self.store.release(job_id, self.claims.pop(job_id).attempt)

    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        if self.claims:
            job_id = data.draw(st.sampled_from(sorted(self.claims)))
            claim = self.claims.pop(job_id)
            end = events.finished(claim.next_seq, JobState.SUCCEEDED, "stop", "cpu")
            self.store.succeed(job_id, claim.attempt, {"response": "x"}, [end])

    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        if dead := sorted(job.id for job in self.store.dead_letters()):
            old, job_id = data.draw(st.sampled_from(dead)), f"j{next(self.numbers)}"
            meaning = self.accepted[old]
            if meaning.model and self.registry.resolve(meaning.model) is None:
                with pytest.raises(ModelNotFound):
                    self.store.retry(old, job_id, max_queue=1000)
                return
            self.store.retry(old, job_id, max_queue=1000)
            self.accepted[job_id] = meaning if meaning.model else self.registry.resolve("") or UNRESOLVED

    # -- what should be there ------------------------------------------------------------------------------------------

    def open(self) -> set[str]:
        return {job_id for job_id in self.accepted if not self.store.get(job_id).state.is_terminal}

    def history_of(self, alias: str) -> list[str]:
        found = next((one for one in self.registry.aliases() if one.name == alias), None)
        return [] if found is None else [found.target, *found.history]

    @invariant()
    def jobs_keep_what_their_names_stood_for(self) -> None:
        for job_id, meaning in self.accepted.items():
            record = self.store.get(job_id)
            assert (record.base, record.model, record.adapter_id) == (meaning.base, meaning.model, meaning.adapter_id)

    @invariant()
    def the_versions_of_open_jobs_are_there(self) -> None:
        for job_id in self.open():
            meaning = self.accepted[job_id]
            if meaning != UNRESOLVED:
                assert self.registry.resolve(meaning.model) == meaning


def meaning_of(claim: Claim) -> Resolved:
    return Resolved(claim.job.base, claim.job.model, claim.job.adapter_id)


@pytest.mark.parametrize("redis", ["fake", "real"], indirect=True)  # a cluster would add nothing but time
def test_random_histories_of_jobs_while_models_change(redis: Redis) -> None:
    machine = type("Histories", (JobHistories,), {"redis": redis})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
