"""How jobs are prepared before they wait for capacity, on the emulated and on the real Redis."""

from __future__ import annotations

from typing import Any

import pytest
from redis import Redis

from common.adapters.records import VersionFacts
from common.adapters.registry import AdapterRegistry
from common.errors import InvalidRequest, QueueFull
from common.fleet import MAX_PREPARING, Fleet, WorkerReport, WorkerState
from common.jobs import events
from common.jobs.fair_share import BULK_DELAY
from common.jobs.job import JobKind, JobState, Lane
from common.jobs.preparation import LONG_PROMPT, grammar_key
from common.jobs.sampling import Grammar, GrammarKind
from common.jobs.store import Claim, Fenced, JobOptions, JobStore, QueuePosition
from common.redis import keys

LONG = "x" * (LONG_PROMPT + 1)
GRAMMAR = Grammar(GrammarKind.REGEX, "a+")


class Station:
    """A store whose dispatches are recorded, and workers."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self.dispatched: list[str] = []
        self.store = JobStore(
            redis, lambda wake_ups: self.dispatched.extend(wake_up.job_id for wake_up in wake_ups), job_ttl_s=600
        )
        self.add_worker("w1", slots=2)

    def add_worker(self, name: str, slots: int) -> None:
        Fleet(self.redis).beat(WorkerReport(name, "h", 1, WorkerState.READY, slots=slots), ttl_s=600)

    def submit(
        self,
        name: str,
        *,
        owner: str = "ann",
        prompt: str = "Hi",
        grammar: Grammar | None = None,
        kind: JobKind = JobKind.GENERATE,
        max_queue: int = 1000,
        bulk: bool = False,
        model: str = "",
    ) -> int:
        sampling: dict[str, Any] = {"max_new_tokens": 10}
        if grammar is not None:
            sampling["grammar"] = {"kind": grammar.kind.value, "source": grammar.source}
        params = {"prompt": prompt} | ({} if kind is JobKind.TOKENIZE else {"sampling": sampling})
        options = JobOptions(bulk=bulk, model=model)
        return self.store.submit(name, kind, params, owner=owner, max_queue=max_queue, options=options).position

    def lane(self, name: str) -> Lane:
        return self.store.get(name).lane

    def claim(self, name: str) -> Claim:
        self.dispatched.remove(name)
        claim = self.store.claim(name, "w1", lease_s=600)
        assert claim is not None
        return claim

    def prepare(self, name: str, key: str = "") -> None:
        claim = self.claim(name)
        self.store.advance(claim.job, claim.attempt, key)

    def succeed(self, name: str) -> None:
        claim = self.claim(name)
        end = events.finished(claim.next_seq, JobState.SUCCEEDED, "stop", "cpu")
        self.store.succeed(name, claim.attempt, {"response": "x"}, [end])


@pytest.fixture
def station(redis: Redis) -> Station:
    return Station(redis)


@pytest.mark.parametrize(
    ("fields", "is_prepared"),
    [
        ({}, True),
        ({"prompt": "x" * LONG_PROMPT}, True),
        ({"prompt": LONG}, False),
        ({"grammar": GRAMMAR}, False),
        ({"grammar": Grammar(GrammarKind.JSON_OBJECT)}, True),
        ({"kind": JobKind.STREAM, "grammar": GRAMMAR}, False),
        ({"kind": JobKind.TOKENIZE, "prompt": LONG}, True),
    ],
)
def test_long_preparations_happen_before_a_job_takes_capacity(
    station: Station, fields: dict[str, Any], is_prepared: bool
) -> None:
    station.submit("a", **fields)

    assert station.store.get("a").is_prepared is is_prepared


def test_a_prepared_job_waits_for_capacity_and_starts_its_first_attempt(station: Station) -> None:
    station.submit("a", grammar=GRAMMAR)
    assert station.store.get("a").attempt == 0
    station.prepare("a")
    record = station.store.get("a")
    assert (record.state, record.lane, record.attempt, record.started_ms) == (JobState.QUEUED, Lane.GENERATE, 0, None)

    claim = station.claim("a")

    assert (claim.attempt, claim.job.is_prepared) == (1, True)
    assert not station.redis.hget(keys.COUNTERS, "failovers")
    station.dispatched.append("a")
    assert station.store.claim("a", "w2", lease_s=600) is None


def test_the_preparation_of_another_attempt_is_refused(station: Station) -> None:
    station.submit("a", grammar=GRAMMAR)
    claim = station.claim("a")
    station.store.advance(claim.job, claim.attempt, "")

    with pytest.raises(Fenced):
        station.store.advance(claim.job, claim.attempt, "")
    running = station.claim("a")
    with pytest.raises(Fenced):
        station.store.fail("a", claim.attempt, [events.error(0, InvalidRequest("late"))])
    assert station.store.get("a").attempt == running.attempt


def test_a_grammar_is_prepared_once(station: Station) -> None:
    station.submit("a", grammar=GRAMMAR)
    station.prepare("a", grammar_key(GRAMMAR, ""))

    station.submit("b", grammar=GRAMMAR)
    station.submit("c", grammar=Grammar(GrammarKind.REGEX, "b+"))
    station.submit("d", grammar=GRAMMAR, prompt=LONG)

    assert [station.lane(name) for name in "bcd"] == [Lane.GENERATE, Lane.PREPARE, Lane.PREPARE]


def test_a_grammar_is_prepared_for_each_adapter(station: Station) -> None:
    registry = AdapterRegistry(station.redis)
    for name in ("one", "two"):
        registry.register(name, VersionFacts(name * 10, "smol"))
    station.submit("a", grammar=GRAMMAR)
    station.prepare("a", grammar_key(GRAMMAR, ""))

    station.submit("b", grammar=GRAMMAR, model="one")
    assert station.lane("b") is Lane.PREPARE, "its vocabulary may be another one"
    station.prepare("b", grammar_key(GRAMMAR, station.store.get("b").adapter_id))

    station.submit("c", grammar=GRAMMAR, model="one")
    station.submit("d", grammar=GRAMMAR, model="two")
    assert [station.lane(name) for name in "cd"] == [Lane.GENERATE, Lane.PREPARE]


def test_jobs_without_preparation_do_not_wait_for_preparations(station: Station) -> None:
    for number in range(60):
        station.submit(f"hostile{number}", grammar=Grammar(GrammarKind.REGEX, f"{number}"))

    assert station.submit("ordinary", owner="ann") == 0
    assert "ordinary" in station.dispatched


def test_an_owner_leaves_room_for_others_in_the_preparation(station: Station) -> None:
    for number in range(60):
        station.submit(f"hostile{number}", owner="mallory", grammar=Grammar(GrammarKind.REGEX, f"{number}"))
    assert len(station.dispatched) == MAX_PREPARING - 1

    assert station.submit("first", owner="ann", grammar=GRAMMAR) == 0
    assert station.submit("second", owner="ann", prompt=LONG) > 0
    station.prepare("first")
    assert "second" in station.dispatched
    station.prepare("hostile0")
    assert f"hostile{MAX_PREPARING - 1}" in station.dispatched


def test_each_worker_prepares_a_limited_number_of_jobs(station: Station) -> None:
    station.add_worker("w2", slots=2)
    station.add_worker("starting", slots=0)
    for number in range(60):
        station.submit(f"job{number}", grammar=Grammar(GrammarKind.REGEX, f"{number}"))

    assert len(station.dispatched) == 2 * MAX_PREPARING - 1


def test_tokenizing_is_shared_and_bounded_like_the_rest(station: Station) -> None:
    for number in range(MAX_PREPARING - 1 + 7):
        station.submit(f"many{number}", owner="mallory", kind=JobKind.TOKENIZE, max_queue=7)
    with pytest.raises(QueueFull):
        station.submit("too many", owner="mallory", kind=JobKind.TOKENIZE, max_queue=7)

    assert station.submit("one", owner="ann", kind=JobKind.TOKENIZE, max_queue=7) == 0


def test_tokenized_tokens_are_charged(station: Station) -> None:
    station.submit("a", kind=JobKind.TOKENIZE)
    claim = station.claim("a")
    end = events.finished(claim.next_seq, JobState.SUCCEEDED)
    station.store.succeed("a", claim.attempt, {"ids": [1, 2, 3], "prompt_tokens": 3}, [end])

    assert station.store.usage("ann")["prompt_tokens"] == 3


def test_jobs_in_the_preparation_queue_count_after_all_in_the_queue(station: Station) -> None:
    for number in range(8):
        station.submit(f"job{number}")
    num_waiting = station.store.depth(Lane.GENERATE)
    positions = [station.submit(f"new{number}", grammar=Grammar(GrammarKind.REGEX, f"{number}")) for number in range(6)]

    free = MAX_PREPARING - 1
    assert positions == [0] * free + [num_waiting + place for place in range(1, 7 - free)]
    assert station.store.queue_positions([f"new{free}", "new0", "job7"]) == {
        f"new{free}": QueuePosition(num_waiting + 1),
        "job7": QueuePosition(num_waiting),
    }


def test_a_prepared_job_that_waits_for_capacity_reports_it(station: Station) -> None:
    for number in range(5):
        station.submit(f"job{number}")
    station.submit("a", grammar=GRAMMAR)

    station.prepare("a")

    (event,) = [events.Event.from_wire(text) for text in station.redis.lrange(keys.log("a"), 0, -1)]
    assert event.data == {"position": station.store.queue_positions(["a"])["a"].position}


def test_a_bulk_job_is_bulk_in_both_queues(station: Station) -> None:
    for number in range(5):
        station.submit(f"job{number}")
    station.submit("bulk", prompt=LONG, bulk=True)
    station.submit("urgent", prompt=LONG)
    for name in ("bulk", "urgent"):
        station.prepare(name)

    score = station.redis.zscore(keys.pending(Lane.GENERATE), "bulk")
    assert score is not None
    assert score >= BULK_DELAY
    assert (
        station.store.queue_positions(["urgent"])["urgent"].position
        < station.store.queue_positions(["bulk"])["bulk"].position
    )


def test_a_job_whose_worker_dies_is_prepared_by_another(station: Station) -> None:
    station.submit("a", grammar=GRAMMAR)
    station.claim("a")
    station.redis.zadd(keys.leases(Lane.PREPARE), {"a": 0})

    station.store.reap()

    assert station.lane("a") is Lane.PREPARE
    assert station.claim("a").attempt == 1


def test_a_job_can_be_cancelled_before_during_and_after_its_preparation(station: Station) -> None:
    for name in ("before", "during", "after", "x", "y"):
        station.submit(name, owner=name, grammar=Grammar(GrammarKind.REGEX, name))
    assert station.store.cancel("before") is JobState.CANCELLED
    station.claim("during")
    assert station.store.cancel("during") is JobState.RUNNING
    station.prepare("after")
    assert station.store.cancel("after") is JobState.CANCELLED

    assert station.store.depth(Lane.PREPARE) == 0
    assert station.store.depth(Lane.GENERATE) == 0
