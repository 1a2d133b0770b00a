"""What a request costs Redis does not grow with the fleet, and the sums that make it so are right."""

from __future__ import annotations

from itertools import count

import pytest
from redis import Redis

from common.fleet import Fleet, WorkerReport, WorkerState
from common.jobs import events
from common.jobs.job import JobKind, JobState
from common.jobs.store import JobStore
from common.redis import keys

PLACES = 32
LANE = "slm:lane:generate"


class Busy:
    """A fleet with a job of one of two owners in each place, and more that wait."""

    def __init__(self, redis: Redis, num_workers: int, num_waiting: int = 4) -> None:
        redis.flushall()
        self.redis = redis
        self.store = JobStore(redis, self._start, job_ttl_s=600)
        self._attempts: dict[str, int] = {}
        self._numbers = count()
        redis.hset(keys.API_KEYS, mapping={"ann": "{}", "bob": "{}"})
        for number in range(num_workers):
            self.beat(f"w{number}")
        for _ in range(num_workers * PLACES + num_waiting):
            self.submit()

    def _start(self, wake_ups: object) -> None:
        for wake_up in wake_ups:  # type: ignore[attr-defined]
            if claim := self.store.claim(wake_up.job_id, "w0", lease_s=600):
                self._attempts[claim.job.id] = claim.attempt

    def beat(self, worker: str = "w0", places: int = PLACES) -> None:
        Fleet(self.redis).beat(WorkerReport(worker, "h", 1, WorkerState.READY, slots=places), ttl_s=600)

    def submit(self) -> str:
        number = next(self._numbers)
        name = f"j{number}"
        self.store.submit(name, JobKind.GENERATE, {}, owner=("ann", "bob")[number % 2], max_queue=10**6)
        return name

    def finish(self) -> None:
        name, attempt = self._attempts.popitem()
        self.store.succeed(name, attempt, {}, [events.finished(0, JobState.SUCCEEDED)])

    def work(self) -> None:
        """A request, its end with the start of the next one, and a heartbeat."""
        self.submit()
        self.finish()
        self.beat()
        self.store.reap()

    def running(self) -> dict[str, int]:
        return {flow: int(number) for flow, number in self.redis.hgetall(f"{LANE}:running").items()}

    def counted(self) -> dict[str, int]:
        """The same, by looking at all jobs."""
        ids = [
            *self.redis.zrange(keys.dispatched("generate"), 0, -1),
            *self.redis.zrange(keys.leases("generate"), 0, -1),
        ]
        owners = [self.redis.hget(keys.job(one), "owner") for one in ids]
        return {f"{owner}:interactive": owners.count(owner) for owner in set(owners)}


def commands(redis: Redis) -> int:
    """How many commands the server has run, those of scripts included."""
    return sum(one["calls"] for name, one in redis.info("commandstats").items() if name != "cmdstat_info")


def cost_of_work(redis: Redis, num_workers: int) -> int:
    fleet = Busy(redis, num_workers)
    fleet.work()  # counts the places
    before = commands(redis)
    fleet.work()
    return commands(redis) - before


def test_a_request_and_a_heartbeat_cost_the_same_in_a_large_fleet(real_redis: Redis) -> None:
    assert cost_of_work(real_redis, 6) <= cost_of_work(real_redis, 2) + 5  # before: 60 more for each worker


def test_the_sums_of_running_jobs_follow_every_change(redis: Redis) -> None:
    fleet = Busy(redis, 2)
    for _ in range(3):
        fleet.work()
        assert fleet.running() == fleet.counted()
    for name in [fleet.submit() for _ in range(4)]:
        fleet.store.cancel(name)
    assert fleet.running() == fleet.counted()


def test_wrong_sums_are_counted_again(redis: Redis) -> None:
    """As after an upgrade from a version that did not keep them."""
    fleet = Busy(redis, 1)
    redis.delete(f"{LANE}:running", f"{LANE}:running_cost")
    fleet.store.reap()
    assert fleet.running() == fleet.counted()
    assert redis.hgetall(f"{LANE}:running_cost").keys() == fleet.running().keys()


@pytest.mark.parametrize("places", [0, 8])
def test_a_worker_that_changes_its_places_is_counted_at_once(redis: Redis, places: int) -> None:
    fleet = Busy(redis, 2, num_waiting=0)
    fleet.submit()
    fleet.beat("w1", places)
    fleet.submit()
    assert redis.hget(f"{LANE}:service", "places") == str(PLACES + places)


def test_only_one_worker_in_a_while_looks_for_lost_jobs(redis: Redis) -> None:
    fleet = Busy(redis, 1)
    fleet.store.reap(60)
    name = redis.zrange(keys.leases("generate"), 0, 0)[0]
    redis.zadd(keys.leases("generate"), {name: 0})
    fleet.store.reap(60)
    assert redis.hget(keys.job(name), "crashes") == "0"
    fleet.store.reap()
    assert redis.hget(keys.job(name), "crashes") == "1"


def test_a_clock_that_is_set_back_delays_neither_the_search_nor_the_counting(redis: Redis) -> None:
    fleet = Busy(redis, 1, num_waiting=0)
    seconds, _ = redis.time()
    in_an_hour = (seconds + 3600) * 1000
    redis.set("slm:reaped", in_an_hour, ex=3600)
    redis.hset(f"{LANE}:service", mapping={"places": 1, "until_ms": in_an_hour})
    redis.zadd(keys.leases("generate"), {"j0": 0})
    fleet.store.reap(60)
    assert redis.hget(keys.job("j0"), "crashes") == "1"
    assert redis.hget(f"{LANE}:service", "places") == str(PLACES)
