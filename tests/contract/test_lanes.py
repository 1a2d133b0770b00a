"""Lanes of base models: each base has its own queue, capacity and order; on the emulated and on the real Redis."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from redis import Redis

from common.adapters.records import VersionFacts
from common.adapters.registry import AdapterRegistry
from common.errors import NoWorker, QueueFull
from common.fleet import Fleet, WorkerReport, WorkerState
from common.jobs import events
from common.jobs.job import JobKind, JobState, Lane
from common.jobs.queue_metrics import read_queue_metrics
from common.jobs.store import Claim, JobOptions, JobStore, Submitted, WakeUp
from common.jobs.waiting_work import WaitingWork, read_waiting_work
from common.redis import keys

LEASE_S = 600.0
SLOTS = 2
LONG = {"prompt": "word " * 4000, "sampling": {"max_new_tokens": 10}}


class Bases:
    """A store, and one worker each for the base models `smol` and `chat`; each base has one adapter."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.wake_ups: list[WakeUp] = []
        self.store = JobStore(redis, self.wake_ups.extend, job_ttl_s=600)
        self.fleet = Fleet(redis)
        self.registry = AdapterRegistry(redis)
        for base in ("smol", "chat"):
            self.registry.note_base(base, f"id of {base}")
            self.registry.register(f"{base}-tuned", VersionFacts(f"a-{base}", base))
            self.beat(base)
        self.registry.set_default("smol")

    def beat(self, base: str, slots: int = SLOTS) -> None:
        report = WorkerReport(id=f"w-{base}", host="h", pid=1, state=WorkerState.READY, slots=slots, base=base)
        self.fleet.beat(report, ttl_s=600)

    def submit(
        self, job_id: str, model: str = "", owner: str = "me", kind: JobKind = JobKind.GENERATE, max_queue: int = 100
    ) -> Submitted:
        return self.enter(job_id, {"prompt": job_id}, model, owner, kind, max_queue)

    def enter(
        self,
        job_id: str,
        params: Mapping[str, object],
        model: str,
        owner: str = "me",
        kind: JobKind = JobKind.GENERATE,
        max_queue: int = 100,
    ) -> Submitted:
        options = JobOptions(model=model)
        return self.store.submit(job_id, kind, dict(params), owner=owner, max_queue=max_queue, options=options)

    def claim(self, job_id: str) -> Claim:
        claim = self.store.claim(job_id, "w", lease_s=LEASE_S)
        assert claim is not None
        return claim

    def succeed(self, claim: Claim) -> None:
        end = events.finished(claim.next_seq, JobState.SUCCEEDED, "stop", "cpu")
        self.store.succeed(claim.job.id, claim.attempt, {"response": "x"}, [end])

    def dispatched(self) -> dict[str, str]:
        """The jobs dispatched since the last call -> the Celery queue."""
        found, self.wake_ups[:] = {one.job_id: one.queue for one in self.wake_ups}, []
        return found

    def pending(self, base: str) -> list[str]:
        return [str(job_id) for job_id in self.redis.zrange(keys.pending(f"generate:{base}"), 0, -1)]


@pytest.fixture
def bases(redis: Redis) -> Bases:
    return Bases(redis)


@pytest.mark.parametrize(
    ("model", "base"),
    [("smol", "smol"), ("chat", "chat"), ("chat-tuned", "chat"), ("chat-tuned@1", "chat"), ("", "smol")],
)
def test_a_job_goes_to_the_workers_of_its_base(bases: Bases, model: str, base: str) -> None:
    bases.submit("a", model)
    assert bases.dispatched() == {"a": f"slm.{base}"}
    assert bases.store.get("a").lane is Lane.GENERATE
    assert bases.redis.hget(keys.job("a"), "lane") == f"generate:{base}"


def test_each_base_dispatches_up_to_its_own_capacity(bases: Bases) -> None:
    bases.beat("chat", slots=1)
    for number in range(5):
        bases.submit(f"s{number}", "smol")
        bases.submit(f"c{number}", "chat")
    assert list(bases.dispatched()) == ["s0", "c0", "s1", "c1", "s2"]  # one more each than it has places
    assert bases.store.queue_positions(["s3", "s4", "c2", "c4"]) == {
        name: bases.store.position_at(position) for name, position in {"s3": 1, "s4": 2, "c2": 1, "c4": 3}.items()
    }


def test_a_place_that_becomes_free_goes_to_a_job_of_the_same_base(bases: Bases) -> None:
    for number in range(4):
        bases.submit(f"c{number}", "chat")
        bases.submit(f"s{number}", "smol")
    claim = bases.claim("c0")
    bases.dispatched()
    bases.succeed(claim)
    assert bases.dispatched() == {"c3": "slm.chat"}


def test_a_full_queue_of_one_base_does_not_refuse_jobs_of_another(bases: Bases) -> None:
    for number in range(SLOTS + 1 + 2):
        bases.submit(f"c{number}", "chat", max_queue=2)
    with pytest.raises(QueueFull):
        bases.submit("more", "chat", max_queue=2)
    assert bases.submit("s", "smol", max_queue=2).position == 0


def test_a_job_is_refused_if_its_base_has_no_live_worker(bases: Bases) -> None:
    bases.fleet.leave("w-chat")
    for model in ("chat", "chat-tuned"):
        with pytest.raises(NoWorker, match="No worker of the base model 'chat' is alive"):
            bases.submit("a", model)
    assert bases.submit("b", "smol").position == 0


def test_control_jobs_can_go_to_any_worker(bases: Bases) -> None:
    bases.store.submit("load", JobKind.LOAD, {}, owner="me", max_queue=9)
    assert bases.dispatched() == {"load": "slm.control"}


def test_preparation_has_places_of_its_own_for_each_base(bases: Bases) -> None:
    for number in range(4):
        bases.enter(f"c{number}", LONG, "chat", owner=f"o{number}")
    assert bases.dispatched() == {f"c{number}": "slm.chat" for number in range(3)}
    bases.enter("s", LONG, "smol")
    assert bases.dispatched() == {"s": "slm.smol"}
    claim = bases.claim("c0")
    assert claim.job.lane is Lane.PREPARE
    bases.store.advance(claim.job, claim.attempt, "")
    assert bases.dispatched() == {"c0": "slm.chat", "c3": "slm.chat"}
    assert bases.redis.hget(keys.job("c0"), "lane") == "generate:chat"


def test_a_job_to_be_prepared_counts_after_the_waiting_generations_of_its_base(bases: Bases) -> None:
    for number in range(SLOTS + 1 + 3):
        bases.submit(f"c{number}", "chat")
    for number in range(3):
        bases.enter(f"s{number}", LONG, "smol", owner=f"o{number}")
        bases.enter(f"p{number}", LONG, "chat", owner=f"o{number}")
    assert bases.enter("late", LONG, "chat").position == 4
    assert bases.enter("free", LONG, "smol").position == 1


def test_jobs_of_a_dead_worker_go_to_another_worker_of_the_same_base(bases: Bases) -> None:
    bases.submit("c", "chat")
    bases.claim("c")
    bases.dispatched()
    bases.redis.zadd(keys.leases("generate:chat"), {"c": 0})
    bases.store.reap()
    assert bases.dispatched() == {"c": "slm.chat"}


def test_a_lost_wake_up_message_is_noticed_although_another_base_has_messages(bases: Bases) -> None:
    bases.submit("c", "chat")
    bases.submit("s", "smol")
    bases.dispatched()
    bases.redis.lpush("slm.smol", "message of s")
    for job_id, base in (("c", "chat"), ("s", "smol")):
        bases.redis.zadd(keys.dispatched(f"generate:{base}"), {job_id: 1})  # long ago
    bases.store.reap()
    assert bases.dispatched() == {"c": "slm.chat"}


def test_metrics_count_each_base_apart(bases: Bases) -> None:
    for number in range(SLOTS + 2):
        bases.submit(f"c{number}", "chat")
    bases.submit("s", "smol")
    bases.claim("s")
    metrics = read_queue_metrics(bases.redis)
    assert (metrics.waiting["generate:chat"], metrics.waiting["generate:smol"]) == (1, 0)
    assert (metrics.running["generate:chat"], metrics.running["generate:smol"]) == (0, 1)
    assert (bases.store.depth(Lane.GENERATE), bases.store.running(Lane.GENERATE)) == (1, 1)


def test_the_waiting_work_is_the_tokens_and_the_age_of_the_jobs_that_wait(bases: Bases) -> None:
    for number in range(SLOTS + 3):
        bases.submit(f"c{number}", "chat")
    waiting = read_queue_metrics(bases.redis).waiting
    costs = [float(bases.redis.hget(f"slm:job:{job_id}", "cost") or 0) for job_id in bases.pending("chat")]
    bases.redis.hincrby(f"slm:job:{bases.pending('chat')[-1]}", "created_ms", -60_000)
    work = read_waiting_work(bases.redis, waiting)
    assert len(costs) == waiting["generate:chat"] == 2
    assert work["generate:chat"].tokens == pytest.approx(sum(costs))
    assert 60 <= work["generate:chat"].oldest_s < 120
    assert work["generate:smol"] == WaitingWork()


def test_a_worker_that_leaves_takes_its_places_with_it(bases: Bases) -> None:
    bases.fleet.leave("w-chat")
    assert not bases.redis.exists("slm:lane:generate:chat:places")
    bases.redis.zadd("slm:workers", {"w-smol": 1})
    assert bases.fleet.workers() == []
    assert not bases.redis.exists("slm:lane:generate:smol:places")


def test_an_owners_running_jobs_on_one_base_count_on_the_others(bases: Bases) -> None:
    """While both wait for `chat`, the one who also uses `smol` comes as much later as that costs."""
    for number in range(SLOTS + 1):
        bases.submit(f"full{number}", "chat", owner="carl")  # no place is free
        bases.submit(f"ann-smol{number}", "smol", owner="ann")
    for number in range(7):
        bases.submit(f"ann{number}", "chat", owner="ann")
        bases.submit(f"bob{number}", "chat", owner="bob")
    assert bases.pending("chat")[:8] == ["bob0", "bob1", "bob2", "bob3", "ann0", "bob4", "bob5", "bob6"]


def test_without_use_of_other_bases_owners_alternate(bases: Bases) -> None:
    for number in range(SLOTS + 1):
        bases.submit(f"full{number}", "chat", owner="carl")
    for number in range(3):
        bases.submit(f"ann{number}", "chat", owner="ann")
    for number in range(3):
        bases.submit(f"bob{number}", "chat", owner="bob")
    assert bases.pending("chat") == ["ann0", "bob0", "ann1", "bob1", "ann2", "bob2"]


def test_use_of_another_base_counts_only_while_it_lasts(bases: Bases) -> None:
    bases.submit("used", "smol", owner="ann")
    bases.succeed(bases.claim("used"))
    for number in range(SLOTS + 1):
        bases.submit(f"full{number}", "chat", owner="carl")
    bases.submit("ann", "chat", owner="ann")
    bases.submit("bob", "chat", owner="bob")
    assert bases.pending("chat") == ["ann", "bob"]


class TestAdoption:
    """Jobs that wait in lanes that nobody serves any more."""

    def test_jobs_of_one_base_model_go_on_after_others_were_added(self, redis: Redis) -> None:
        store, fleet = JobStore(redis, lambda _: None, job_ttl_s=600), Fleet(redis)
        AdapterRegistry(redis).note_base("smol", "b")
        before = WorkerReport(id="w", host="h", pid=1, state=WorkerState.READY, slots=1)
        fleet.beat(before, ttl_s=600)
        for name in "abc":
            options = JobOptions(model="smol")
            store.submit(name, JobKind.GENERATE, {"prompt": name}, owner="me", max_queue=9, options=options)
        fleet.leave("w")
        bases = Bases(redis)
        bases.store.adopt("chat", "chat", is_default=False)
        assert bases.dispatched() == {}
        bases.store.adopt("smol", "smol", is_default=True)
        assert bases.dispatched() == dict.fromkeys("abc", "slm.smol")
        assert [bases.claim(name).job.base for name in "abc"] == ["smol"] * 3

    def test_and_after_they_were_removed_again(self, bases: Bases) -> None:
        bases.submit("c", "chat")
        bases.submit("s", "smol")
        for base in ("smol", "chat"):
            bases.fleet.leave(f"w-{base}")
        bases.dispatched()
        bases.fleet.beat(WorkerReport(id="w", host="h", pid=1, state=WorkerState.READY, slots=1), ttl_s=600)
        bases.store.adopt("smol", "", is_default=True)
        assert bases.dispatched() == {"s": "slm"}
        assert bases.redis.hget(keys.job("c"), "lane") == "generate:chat", "it waits for a worker of its base"

    def test_a_served_lane_keeps_its_jobs(self, bases: Bases) -> None:
        bases.submit("s", "smol")
        bases.dispatched()
        bases.store.adopt("smol", "", is_default=True)
        assert bases.dispatched() == {}

    def test_a_job_accepted_before_any_base_was_known_goes_to_the_default_base(self, redis: Redis) -> None:
        store, fleet = JobStore(redis, lambda _: None, job_ttl_s=600), Fleet(redis)
        starting = WorkerReport(id="w-chat", host="h", pid=1, base="chat")
        fleet.beat(starting, ttl_s=600)
        for name in "ab":
            store.submit(name, JobKind.GENERATE, {"prompt": name}, owner="me", max_queue=9)
        bases = Bases(redis)
        bases.store.adopt("chat", "chat", is_default=False)
        assert bases.dispatched() == {}
        bases.store.adopt("smol", "smol", is_default=True)
        assert bases.dispatched() == dict.fromkeys("ab", "slm.smol")
        assert bases.claim("a").job.model == "smol"


def test_each_base_has_its_own_desired_state(bases: Bases) -> None:
    smol, chat = bases.fleet.of("smol"), bases.fleet.of("chat")
    chat.set_desired(loaded=False)
    assert (smol.desired().loaded, chat.desired().loaded) == (True, False)
    assert [one.id for one in chat.workers_of_base()] == ["w-chat"]
    assert len(bases.fleet.workers_of_base()) == 2


def test_an_idle_base_is_unloaded(bases: Bases) -> None:
    chat = bases.fleet.of("chat")
    assert not chat.unload_if_idle(60)
    bases.redis.hset("slm:model:chat", "idle_ms", 1)  # long ago
    assert chat.unload_if_idle(60)
    assert not chat.desired().loaded
    assert bases.fleet.of("smol").desired().loaded
    assert not chat.unload_if_idle(60), "it is unloaded already"
    chat.require_model()
    assert not chat.unload_if_idle(60), "the time starts anew"


@pytest.mark.parametrize("params", [{"prompt": "a"}, LONG])
def test_a_base_with_a_job_is_not_idle(bases: Bases, params: dict[str, object]) -> None:
    chat = bases.fleet.of("chat")
    bases.redis.hset("slm:model:chat", "idle_ms", 1)
    bases.enter("a", params, "chat")
    assert not chat.unload_if_idle(60)
    bases.claim("a")
    assert not chat.unload_if_idle(60)
    assert not bases.redis.hexists("slm:model:chat", "idle_ms")


def test_a_job_that_ran_between_two_heartbeats_counts(bases: Bases) -> None:
    chat = bases.fleet.of("chat")
    bases.submit("a", "chat")
    bases.succeed(bases.claim("a"))
    bases.redis.hset("slm:model:chat", "idle_ms", 1)
    assert not chat.unload_if_idle(60)
    assert chat.unload_if_idle(0)


def test_load_jobs_of_a_base_go_to_its_workers(bases: Bases) -> None:
    bases.submit("load", "chat-tuned", kind=JobKind.LOAD)
    assert bases.dispatched() == {"load": "slm.chat"}
    assert bases.store.get("load").base == "chat"
    bases.fleet.leave("w-chat")
    with pytest.raises(NoWorker):
        bases.submit("load2", "chat", kind=JobKind.LOAD)
