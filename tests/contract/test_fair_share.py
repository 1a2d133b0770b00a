"""How owners share a long queue, on the emulated and on the real Redis."""

from __future__ import annotations

import random

import pytest
from redis import Redis

from common.errors import QueueFull
from common.fleet import Fleet, WorkerReport, WorkerState
from common.jobs import events
from common.jobs.fair_share import BULK_DELAY
from common.jobs.job import JobKind, JobState
from common.jobs.store import Claim, JobOptions, JobStore
from common.redis import keys

LANE = "generate"
AHEAD = 1  # wake-up messages beyond the capacity


class Counter:
    """A queue, and a worker that runs one sequence at a time and claims jobs in the order of dispatch."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.store = JobStore(redis, self._dispatch, job_ttl_s=600)
        self.dispatched: list[str] = []
        Fleet(redis).beat(WorkerReport("w", "h", 1, WorkerState.READY, slots=1), ttl_s=600)

    def _dispatch(self, wake_ups: object) -> None:
        self.dispatched += [wake_up.job_id for wake_up in wake_ups]  # type: ignore[attr-defined]

    def enter(self, name: str, owner: str, *, tokens: int = 100, bulk: bool = False, max_queue: int = 100_000) -> str:
        params = {"sampling": {"max_new_tokens": tokens}}
        options = JobOptions(bulk=bulk)
        self.store.submit(name, JobKind.GENERATE, params, owner=owner, max_queue=max_queue, options=options)
        return name

    def enter_many(self, count: int, owner: str, **how: int | bool) -> list[str]:
        return [self.enter(f"{owner}{number}", owner, **how) for number in range(count)]  # type: ignore[arg-type]

    def waiting(self) -> list[str]:
        return [str(name) for name in self.redis.zrange(keys.pending(LANE), 0, -1)]

    def claim(self) -> Claim:
        claim = self.store.claim(self.dispatched.pop(0), "w", lease_s=600)
        assert claim is not None
        return claim

    def serve(self, num_jobs: int) -> list[str]:
        """Run the next jobs one after another; returns their ids."""
        return [self._run(self.claim()) for _ in range(num_jobs)]

    def _run(self, claim: Claim) -> str:
        end = events.finished(claim.next_seq, JobState.SUCCEEDED)
        self.store.succeed(claim.job.id, claim.attempt, {}, [end])
        return claim.job.id


@pytest.fixture
def counter(redis: Redis) -> Counter:
    return Counter(redis)


@pytest.mark.parametrize("redis", ["fake", "real"], indirect=True)  # a cluster would add nothing but time
def test_an_owner_with_thousands_of_jobs_does_not_delay_another(counter: Counter) -> None:
    counter.enter_many(2000, "ann")
    counter.serve(3)
    counter.enter("urgent", "bob")
    assert counter.store.queue_positions(["urgent"])["urgent"].position == 1
    assert "urgent" in counter.serve(AHEAD + 2)  # dispatched jobs go first


def test_one_owner_is_served_first_come_first_served_whatever_the_jobs_cost(counter: Counter) -> None:
    costs = random.Random(5)
    names = [counter.enter(f"job{number}", "ann", tokens=costs.randrange(1, 5000)) for number in range(60)]
    assert counter.serve(60) == names


def test_owners_alternate(counter: Counter) -> None:
    counter.enter_many(40, "ann")
    counter.enter_many(40, "bob")
    counter.serve(AHEAD + 1)  # dispatched before bob's first job
    served = counter.serve(40)
    assert abs(sum(name.startswith("ann") for name in served) - 20) <= 1


def test_shares_are_measured_in_tokens(counter: Counter) -> None:
    """An owner with jobs ten times as large gets a tenth of the starts."""
    counter.enter_many(30, "ann", tokens=2000)
    counter.enter_many(300, "bob", tokens=200)
    served = counter.serve(110)
    assert 9 <= sum(name.startswith("ann") for name in served) <= 13


def test_an_idle_owner_saves_nothing_up(counter: Counter) -> None:
    """Bob's first hundred jobs do not all go before those of ann, who has been alone until now."""
    counter.enter_many(100, "ann")
    counter.serve(50)
    counter.enter_many(100, "bob")
    served = counter.serve(40)
    assert 18 <= sum(name.startswith("ann") for name in served) <= 22


def test_an_owner_who_was_alone_is_not_penalised(counter: Counter) -> None:
    counter.enter_many(100, "ann")
    counter.serve(100)
    counter.enter_many(20, "bob")
    again = [counter.enter(f"again{number}", "ann") for number in range(20)]
    assert sum(name in again for name in counter.serve(20)) >= 9


def test_jobs_that_left_the_queue_without_running_cost_nothing(counter: Counter) -> None:
    names = counter.enter_many(100, "ann")
    counter.enter_many(100, "bob")
    for name in names:
        counter.store.cancel(name)
    counter.dispatched = [name for name in counter.dispatched if name not in names]
    counter.enter("again", "ann")
    assert "again" in counter.serve(AHEAD + 3)


def test_a_job_that_is_put_back_keeps_its_position(counter: Counter) -> None:
    counter.enter_many(10, "ann")
    counter.enter_many(10, "bob")
    claim = counter.claim()
    waiting = counter.waiting()
    counter.redis.zadd(keys.leases(LANE), {claim.job.id: 0})
    counter.store.reap()
    assert counter.dispatched[-1] == claim.job.id
    assert counter.waiting() == waiting


def test_bulk_jobs_let_all_interactive_jobs_go_first(counter: Counter) -> None:
    counter.enter_many(300, "ann", tokens=1000, bulk=True)
    counter.serve(5)
    own = counter.enter("own", "ann")
    foreign = counter.enter("foreign", "bob")
    assert counter.waiting()[:2] == [own, foreign]


def test_bulk_jobs_run_although_interactive_ones_keep_coming(counter: Counter) -> None:
    counter.enter_many(2, "bob")
    counter.enter("bulk", "ann", bulk=True)
    tokens = 2000
    names = (f"more{number}" for number in range(1000))
    num_jobs = 0
    while "bulk" not in counter.serve(1):
        counter.enter(next(names), "bob", tokens=tokens)
        num_jobs += 1
    assert num_jobs <= BULK_DELAY // tokens + 3


def test_owners_alternate_among_bulk_jobs_too(counter: Counter) -> None:
    counter.enter_many(100, "ann", bulk=True)
    counter.serve(5)
    counter.enter("theirs", "bob", bulk=True)
    assert "theirs" in counter.serve(AHEAD + 2)


def test_a_queue_that_one_owner_filled_still_accepts_anothers_jobs(counter: Counter) -> None:
    """Up to an equal share of it."""
    counter.enter_many(2 + 10, "ann", max_queue=10)  # two are dispatched at once
    with pytest.raises(QueueFull):
        counter.enter("more", "ann", max_queue=10)
    counter.enter_many(5, "bob", max_queue=10)
    with pytest.raises(QueueFull):
        counter.enter("more", "bob", max_queue=10)
    assert len(counter.waiting()) == 15


def test_an_empty_queue_leaves_nothing_behind(counter: Counter) -> None:
    for owner in ("ann", "bob", "cy"):
        counter.enter_many(5, owner)
    counter.serve(15)
    for name in ("large", "next"):  # virtual time reaches the next one only when the large one has had its tokens
        counter.enter(name, "ann", tokens=10_000)
    counter.serve(2)
    left = {key for key in counter.redis.keys("slm:lane:generate:*") if ":flow:" in key or key.endswith(":flows")}
    assert left == set()
    assert counter.redis.zrange("slm:lane:generate:flow_ends", 0, -1) == ["ann:interactive"]
