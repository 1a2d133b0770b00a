"""The guarantees of the fleet's state, on the emulated and on the real Redis."""

from __future__ import annotations

from redis import Redis

from common.fleet import Desired, Fleet, WorkerReport, WorkerState
from common.redis import keys


def report(worker_id: str = "w1", state: WorkerState = WorkerState.READY) -> WorkerReport:
    return WorkerReport(id=worker_id, host="h", pid=1, state=state, slots=2, device="cpu")


def test_by_default_the_model_should_be_loaded(redis: Redis) -> None:
    assert Fleet(redis).desired() == Desired(loaded=True, generation=0)


def test_every_request_makes_a_new_generation_and_is_announced(redis: Redis) -> None:
    fleet = Fleet(redis)
    with redis.pubsub() as pubsub:
        pubsub.subscribe(keys.CONTROL_CHANNEL)
        pubsub.get_message(timeout=60)
        assert fleet.set_desired(loaded=False) == Desired(loaded=False, generation=1)
        assert pubsub.get_message(timeout=60)["data"] == '{"model":1}'
    assert fleet.set_desired(loaded=True) == Desired(loaded=True, generation=2)
    assert fleet.set_desired(loaded=True) == Desired(loaded=True, generation=3)
    assert fleet.desired() == Desired(loaded=True, generation=3)


def test_requiring_a_loaded_model_only_changes_an_unloaded_one(redis: Redis) -> None:
    fleet = Fleet(redis)
    fleet.set_desired(loaded=False)
    assert fleet.require_model() == Desired(loaded=True, generation=2)
    assert fleet.require_model() == Desired(loaded=True, generation=2)


def test_a_refresh_makes_the_workers_check_again_unless_the_model_is_unloaded(redis: Redis) -> None:
    fleet = Fleet(redis)
    assert fleet.refresh() == Desired(loaded=True, generation=1)
    assert fleet.refresh() == Desired(loaded=True, generation=2)
    fleet.set_desired(loaded=False)
    assert fleet.refresh() == Desired(loaded=False, generation=3)
    assert fleet.desired() == Desired(loaded=False, generation=3)


def test_live_workers_are_listed_with_what_they_reported(redis: Redis) -> None:
    fleet = Fleet(redis)
    fleet.beat(report("w1"), ttl_s=600)
    fleet.beat(report("w2", WorkerState.LOADING), ttl_s=600)
    assert {one.id: one for one in fleet.workers()} == {
        "w1": report("w1"),
        "w2": report("w2", WorkerState.LOADING),
    }


def test_a_worker_that_stops_beating_is_forgotten(redis: Redis) -> None:
    fleet = Fleet(redis)
    fleet.beat(report("w1"), ttl_s=600)
    redis.zadd("slm:workers", {"w1": 1})
    assert fleet.workers() == []
    assert redis.hlen("slm:workers:slots") == 0


def test_a_worker_that_leaves_is_gone_at_once(redis: Redis) -> None:
    fleet = Fleet(redis)
    fleet.beat(report("w1"), ttl_s=600)
    fleet.leave("w1")
    assert fleet.workers() == []
