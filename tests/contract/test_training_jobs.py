"""Training runs in the job store: their own lane and queue, pause and resume, crashes; on both kinds of Redis."""

from __future__ import annotations

import pytest
from redis import Redis

from common.adapters.records import VersionFacts
from common.adapters.registry import AdapterRegistry
from common.errors import Conflict, JobNotFound, ModelNotFound, NoWorker
from common.fleet import Fleet, WorkerReport, WorkerState
from common.jobs import events
from common.jobs.job import JobKind, JobState, Lane
from common.jobs.store import MAX_CRASHES, Claim, Fenced, JobOptions, JobStore, WakeUp
from common.queue import QUEUE, TRAIN_QUEUE
from common.redis import keys
from common.training.trainers import TrainerReport, Trainers

LEASE_S = 600.0


class Station:
    """A store whose wake-up messages are recorded, one worker, and as many trainers as a test wants."""

    def __init__(self, redis: Redis, trainers: int = 1) -> None:
        self.redis = redis
        self.wake_ups: list[WakeUp] = []
        self.store = JobStore(redis, self.wake_ups.extend, job_ttl_s=600)
        self.trainers = Trainers(redis)
        self.registry = AdapterRegistry(redis)
        self.registry.note_base("tiny", "0" * 64)
        Fleet(redis).beat(WorkerReport("w1", "h", 1, WorkerState.READY, slots=2), ttl_s=600)
        for number in range(trainers):
            self.start_trainer(f"t{number}")

    def start_trainer(self, name: str) -> None:
        self.trainers.beat(TrainerReport(name, "h", 1, "cpu"), ttl_s=600)

    def submit(self, job_id: str, kind: JobKind = JobKind.TRAIN, model: str = "tiny") -> int:
        options = JobOptions(model=model)
        return self.store.submit(job_id, kind, {"name": "n"}, owner="me", max_queue=9, options=options).position

    def claim(self, job_id: str) -> Claim:
        claim = self.store.claim(job_id, "t0", lease_s=LEASE_S)
        assert claim is not None
        return claim

    def dispatched(self) -> list[str]:
        found, self.wake_ups[:] = [one.job_id for one in self.wake_ups], []
        return found

    def state(self, job_id: str) -> JobState:
        return self.store.get(job_id).state

    def kill_trainer(self, job_id: str) -> None:
        """Let the lease of the job's trainer expire, and let a worker look for dead trainers' jobs."""
        self.redis.zadd(keys.leases(Lane.TRAIN), {job_id: 1})
        self.redis.hset("slm:awake", mapping={"worker:since": 0, "worker:last": 9e15, "worker:gap_ms": 1})
        self.store.reap()

    def lines(self, job_id: str) -> list[str]:
        found = [events.Event.from_wire(text) for text in self.redis.lrange(keys.log(job_id), 0, -1)]
        return [event.data.get("status", event.type.value) for event in found]


@pytest.fixture
def station(redis: Redis) -> Station:
    return Station(redis)


def test_runs_wait_for_a_free_trainer_and_not_for_generations(redis: Redis) -> None:
    station = Station(redis, trainers=1)
    assert station.submit("a") == 0
    assert station.submit("b", JobKind.EVALUATE) == 1
    assert station.submit("c") == 2
    assert station.dispatched() == ["a"]
    claim = station.claim("a")
    station.store.succeed("a", claim.attempt, {}, [events.finished(claim.next_seq, JobState.SUCCEEDED)])
    assert station.dispatched() == ["b"]


def test_as_many_runs_are_dispatched_as_there_are_trainers(redis: Redis) -> None:
    station = Station(redis, trainers=2)
    for job_id in "abc":
        station.submit(job_id)
    assert station.dispatched() == ["a", "b"]
    station.start_trainer("another")
    station.store.dispatch_due()
    assert station.dispatched() == ["c"]


def test_a_run_is_refused_if_no_trainer_takes_jobs(redis: Redis) -> None:
    station = Station(redis, trainers=0)
    with pytest.raises(NoWorker, match="trainer"):
        station.submit("a")
    station.trainers.beat(TrainerReport("t", "h", 1, "cpu", takes_jobs=False), ttl_s=600)
    with pytest.raises(NoWorker):
        station.submit("a")


def test_wake_up_messages_of_runs_have_their_own_queue(station: Station) -> None:
    station.submit("a")
    assert [one.queue for one in station.wake_ups] == [TRAIN_QUEUE]


def test_a_lost_wake_up_message_of_a_run_is_sent_again(station: Station) -> None:
    station.submit("a")
    station.dispatched()
    station.redis.rpush(QUEUE, "another job's message")  # the queue of generations does not matter
    station.redis.zadd(keys.dispatched(Lane.TRAIN), {"a": 1})
    station.store.reap()
    assert station.dispatched() == ["a"]


def test_the_model_of_a_run_is_resolved_when_it_is_accepted(station: Station) -> None:
    station.registry.register("support", VersionFacts("1" * 64, "tiny", "0" * 64))
    station.submit("a", model="support")
    station.registry.register("support", VersionFacts("2" * 64, "tiny", "0" * 64))
    record = station.store.get("a")
    assert (record.model, record.base, record.adapter_id) == ("support@1", "tiny", "1" * 64)
    with pytest.raises(ModelNotFound):
        station.submit("b", model="nothing")


def test_a_queued_run_is_paused_at_once_and_resumes_at_its_old_position(redis: Redis) -> None:
    station = Station(redis, trainers=1)
    for job_id in "abc":
        station.submit(job_id)
    assert station.store.pause("b") is JobState.PAUSED
    assert station.state("b") is JobState.PAUSED
    assert station.store.pause("b") is JobState.PAUSED  # again: no change
    assert station.store.resume("b") is JobState.QUEUED
    station.dispatched()
    claim = station.claim("a")
    station.store.succeed("a", claim.attempt, {}, [events.finished(claim.next_seq, JobState.SUCCEEDED)])
    assert station.dispatched() == ["b"]
    assert station.lines("b")[1:] == ["Paused", "Resumed"]


def test_a_paused_run_lets_the_next_one_start(station: Station) -> None:
    station.submit("a")
    station.submit("b")
    station.dispatched()
    claim = station.claim("a")
    assert station.store.pause("a") is JobState.RUNNING
    assert station.store.is_to_pause("a")
    station.store.set_aside("a", claim.attempt)
    assert station.state("a") is JobState.PAUSED
    assert not station.store.is_to_pause("a")
    assert station.dispatched() == ["b"]
    station.store.resume("a")
    assert station.dispatched() == []  # the only trainer has `b` now


def test_a_run_that_is_resumed_before_it_has_stopped_is_queued_again(station: Station) -> None:
    station.submit("a")
    claim = station.claim("a")
    station.store.pause("a")
    assert station.store.resume("a") is JobState.RUNNING
    station.dispatched()
    station.store.set_aside("a", claim.attempt)
    assert station.state("a") is JobState.QUEUED
    assert station.dispatched() == ["a"]


def test_a_run_that_is_to_be_cancelled_is_not_paused(station: Station) -> None:
    station.submit("a")
    claim = station.claim("a")
    station.store.pause("a")
    assert station.store.cancel("a") is JobState.RUNNING
    assert station.store.set_aside("a", claim.attempt) is False
    assert station.state("a") is JobState.RUNNING


def test_a_run_that_has_begun_to_publish_is_neither_cancelled_nor_paused(station: Station) -> None:
    station.submit("a")
    first = station.claim("a")
    assert station.store.begin_publishing("a", first.attempt)
    for ask in (station.store.cancel, station.store.pause):
        with pytest.raises(Conflict, match="too late"):
            ask("a")
    assert not station.store.is_to_cancel("a")
    assert not station.store.is_to_pause("a")
    station.kill_trainer("a")
    for ask in (station.store.cancel, station.store.pause):
        with pytest.raises(Conflict):  # the next attempt gives it its result
            ask("a")
    assert station.store.cancel_all("me") == 1  # which leaves it as it is
    assert station.state("a") is JobState.QUEUED
    with pytest.raises(Fenced):
        station.store.begin_publishing("a", first.attempt)
    claim = station.claim("a")
    assert station.store.begin_publishing("a", claim.attempt)
    station.store.succeed("a", claim.attempt, {}, [events.finished(claim.next_seq, JobState.SUCCEEDED)])
    assert station.store.cancel("a") is JobState.SUCCEEDED


def test_a_run_that_is_to_be_cancelled_or_paused_does_not_begin_to_publish(station: Station) -> None:
    for name, ask in (("a", station.store.cancel), ("b", station.store.pause)):
        station.submit(name)
        attempt = station.claim(name).attempt
        ask(name)
        assert not station.store.begin_publishing(name, attempt)


def test_an_older_attempt_cannot_pause_a_run(station: Station) -> None:
    station.submit("a")
    claim = station.claim("a")
    station.kill_trainer("a")
    station.claim("a")
    with pytest.raises(Fenced):
        station.store.set_aside("a", claim.attempt)


def test_a_paused_run_can_be_cancelled_and_then_not_be_resumed(station: Station) -> None:
    station.submit("a")
    station.store.pause("a")
    assert station.store.cancel("a") is JobState.CANCELLED
    assert station.store.resume("a") is JobState.CANCELLED
    assert station.store.pause("a") is JobState.CANCELLED
    assert station.redis.smembers("slm:jobs:paused") == set()


def test_pausing_or_resuming_an_unknown_run_says_so(station: Station) -> None:
    for change in (station.store.pause, station.store.resume):
        with pytest.raises(JobNotFound):
            change("unknown")


def test_a_version_that_a_paused_run_continues_cannot_be_deleted(station: Station) -> None:
    station.registry.register("support", VersionFacts("1" * 64, "tiny", "0" * 64))
    station.submit("a", model="support")
    station.store.pause("a")
    with pytest.raises(Conflict, match="open job a"):
        station.registry.delete("support")


def test_the_run_of_a_killed_trainer_is_queued_again(station: Station) -> None:
    station.submit("a")
    station.claim("a")
    station.dispatched()
    station.kill_trainer("a")
    assert station.state("a") is JobState.QUEUED
    assert station.dispatched() == ["a"]
    assert station.claim("a").attempt == 2


def test_a_run_that_kills_every_trainer_becomes_a_dead_letter_unless_it_reaches_checkpoints(station: Station) -> None:
    station.submit("a")
    for _ in range(MAX_CRASHES):
        claim = station.claim("a")
        reached = events.checkpoint(claim.next_seq, 0.0, 1, is_best=False)
        station.store.emit([("a", claim.attempt, [reached])])
        station.kill_trainer("a")
    assert station.state("a") is JobState.QUEUED
    for _ in range(MAX_CRASHES - 1):  # the last crash of the loop above counts
        station.claim("a")
        station.kill_trainer("a")
    assert station.state("a") is JobState.FAILED
    assert [one.id for one in station.store.dead_letters()] == ["a"]


def test_an_owners_runs_are_listed_until_their_records_expire(station: Station) -> None:
    station.submit("a")
    station.submit("b", JobKind.EVALUATE)
    assert station.redis.zrange(keys.training("me"), 0, -1) == ["a"]
    claim = station.claim("a")
    station.store.succeed("a", claim.attempt, {}, [events.finished(claim.next_seq, JobState.SUCCEEDED)])
    station.redis.zadd("slm:jobs:expiry", {"a": 1})
    station.submit("older")
    station.redis.zadd(keys.training("me"), {"older": 1})
    station.store.reap()
    assert station.redis.zrange(keys.training("me"), 0, -1) == ["older"]
    page = station.store.training_runs("me", after="a", limit=9, is_wanted=lambda _: True)
    assert [one.id for one in page.items] == ["older"], "a page continues where the expired one was"


def test_live_trainers_report_what_they_run(station: Station) -> None:
    report = TrainerReport("t0", "host", 7, "cpu", job_id="a")
    station.trainers.beat(report, ttl_s=600)
    assert station.trainers.live() == [report]
    station.trainers.leave("t0")
    assert station.trainers.live() == []
